//! `#[flow]`: parse, check, expand.

mod check;
mod expand;
mod fallback;
mod missed;
mod model;
mod parse;

use crate::attribute::fallback::Errors;
use crate::attribute::signature::{Noun, UserFunction};
use proc_macro2::TokenStream;

/// Returns the function that describes the flow, which contains the user's function.
pub(crate) fn flow(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = match UserFunction::read(Noun::Flow, item) {
        Ok(function) => function,
        Err(tokens) => return tokens,
    };
    let (mut in_options, mut in_function) = (Errors::default(), Errors::default());
    let flow = parse::flow(options, function, &mut in_options);
    check::options(&flow, &mut in_options);
    check::function(&flow, &mut in_function);
    if in_function.is_empty() {
        return in_options.with(expand::flow(&flow));
    }
    in_options.append(in_function);
    fallback::flow(&flow.function, &in_options)
}

#[cfg(test)]
mod tests {
    use super::flow;
    use crate::attribute::fallback::tests::{check_items, check_options};

    const RIGHT: &str = "fn pipeline(day: u32) -> Node<u64> { load(day) }";

    #[test]
    fn right_flows_have_no_errors() {
        check_options(
            flow,
            RIGHT,
            r#"
            max_active_runs = 1, timeout = "1h", resources = [A, b::B<C, D>, Arc<dyn E>]
            connections = ["a", "b-c.D_"], variables = ["a"], secrets = ["a",]
            secrets = []
            schedule = "@daily"
            schedule = "0 0 6 * * MON-FRI", timezone = "Europe/Zurich", missed = "none", overlap = "queue", max_active_runs = 1
            overlap = r"cancel_running", max_active_runs = 1
            overlap = "skip", max_active_runs = 2, depends_on_past
            overlap = "latest", max_active_runs = 2
            schedule = "@hourly", missed = "7d", depends_on_past
            missed = "1d12h", schedule = "@hourly"
            schedule = "@hourly", missed = 1
            name = "a", defaults(retries = 2, retry_delay = ["5m"], pool = "p"), tags = ["b"]
            "#,
        );
        check_items(
            flow,
            r#"
            fn pipeline(day: u32) -> Node<u64> { load(day) }
            fn a() {}
            fn a() -> () {}
            fn a() -> (orchestrator::Node<u8>, (Mapped<A>, Node<(B, C)>)) {}
            async fn a(mut b: Vec<u8>, #[context] c: &Context) -> anyhow::Result<()> {}
            async fn a() -> Node<u8> {}
            "#,
        );
    }

    #[test]
    fn options_that_are_wrong_are_named() {
        check_options(
            flow,
            RIGHT,
            r#"
            max_active_run = 1                 => did you mean `max_active_runs`?
            backoff = 2                        => unknown option `backoff`: it is one of tasks, write `defaults(backoff = 2.0)`
            cache                              => unknown option `cache`: it is one of `#[task]`, a flow is not cached
            defaults(version = "2")            => unknown option `version`: it is one of `#[task]`, each task declares whether it is cached
            defaults(name = "a")               => unknown option `name`: each task has its own
            defaults(retries = 1, retries = 2) => option `retries` is given twice
            defaults(pool_slots = 1)           => `pool_slots` needs a pool
            defaults(timeout = 60)             => write `"60s"`
            defaults = 2                       => expected `defaults(retries = 2)`
            max_active_runs = 0                => expected `max_active_runs` to be from 1
            timeout = "0s"                     => expected `timeout` to be greater than zero
            resources = Database               => expected `resources = [Database]`
            resources = [&Database]            => write `Database`
            connection = ["a"]                 => did you mean `connections`?
            connections                        => `connections` needs a value: write `connections = ["postgres_default"]`
            connections = "a"                  => expected `connections` to be a list of strings, got `"a"`: write for example `connections = ["postgres_default"]`
            connections = [Postgres]           => expected `connections` to be a list of strings, got `[Postgres]`
            variables("a")                     => expected `variables = ["batch_size"]`
            connections = ["a", "b", "a"]      => connection `a` is given twice: leave one of them out
            variables = ["a", "a"]             => variable `a` is given twice
            secrets = ["a", ""]                => expected a name of at least one character
            secrets = ["a/b", ".b"]            => got '/' in "a/b" ;; does not begin with a dot
            connections = ["s3://bucket"]      => expected the name of a connection, got a URL
            secrets = ["a"], secrets = ["b"]   => option `secrets` is given twice
            defaults(secrets = ["a"])          => unknown option `secrets`
            "#,
        );
    }

    #[test]
    fn requirements_are_in_the_order_of_their_kinds() {
        let parse = |code: &str| code.parse().expect(code);
        let options = r#"secrets = ["a"], variables = ["c", "b"], connections = ["a"]"#;
        let expansion = flow(parse(options), parse(RIGHT))
            .to_string()
            .replace(' ', "")
            .replace("::orchestrator::__private::EntryKind::", "");
        let expected =
            r#"requirements:&[(Connection,"a"),(Variable,"c"),(Variable,"b"),(Secret,"a")]"#;
        assert!(expansion.contains(expected), "{expansion}");
    }

    #[test]
    fn schedules_that_are_wrong_are_named() {
        check_options(
            flow,
            RIGHT,
            r#"
            schedule = "0 25 * * *"                               => hour: expected 0 to 23, got `25`
            schedule = "0 0 30 2 *", timezone = "UTC"             => it would never fire
            schedule = "@dayly", missed = "all"                   => did you mean `@daily`?
            schedule = ""                                         => expected 5 fields
            schedule = 6                                          => expected `schedule` to be a string, got `6`: write for example `schedule = "0 6 * * *"`
            schedule = DAILY, timezone = "UTC"                    => expected `schedule` to be a string, got `DAILY`
            schedule = "@daily", schedule = "@hourly"             => option `schedule` is given twice
            schedul = "@daily"                                    => did you mean `schedule`?
            schedule                                              => `schedule` needs a value
            schedule("@daily")                                    => expected `schedule = "0 6 * * *"`
            timezone = "UTC"                                      => `timezone` needs a schedule
            schedule = "@daily", timezone = "Europe/Zurch"        => did you mean `Europe/Zurich`?
            schedule = "@daily", timezone = Zurich                => expected `timezone` to be a string, got `Zurich`
            missed = "all"                                        => `missed` needs a schedule
            missed = "7 d"                                        => write it without spaces ;; `missed` needs a schedule
            schedule = "@daily", missed = "last"                  => to be one of `"latest"`, `"all"` and `"none"`, a duration such as `"7d"`, or a number of runs such as `10`, got `"last"`
            schedule = "@daily", missed = ""                      => got `""`: write for example `missed = "all"`
            schedule = "@daily", missed = Latest                  => got `Latest`: did you mean `"latest"`?
            schedule = "@daily", missed = true                    => got `true`: write for example `missed = "all"`
            schedule = "@daily", missed = 1.5                     => got `1.5`: write for example `missed = "all"`
            schedule = "@daily", missed = -1                      => got `-1`: write for example `missed = "all"`
            schedule = "@daily", missed = "7days"                 => unknown unit `days`, the units are `ms`, `s`, `m`, `h` and `d`; write `d` for days
            schedule = "@daily", missed = "-7d"                   => a duration cannot be negative
            schedule = "@daily", missed = "7"                     => got `"7"`: write `missed = 7` for at most 7 runs, or `missed = "7d"` for those of 7 days
            schedule = "@daily", missed = 7d                      => got `7d`: write it in quotes, `"7d"`
            schedule = "@daily", missed = "0s"                    => expected `missed` to be greater than zero: write `missed = "none"`
            schedule = "@daily", missed = 0                       => expected `missed` to be from 1 to 4294967295, got 0: write `missed = "none"`
            schedule = "@daily", missed = 4294967296              => expected `missed` to be from 1
            overlap = "skip"                                      => `overlap` needs a limit
            max_active_runs = "1", overlap = "skip"               => expected `max_active_runs` to be a whole number
            max_active_runs = 1, overlap = "cancel-runing"        => did you mean `"cancel_running"`?
            max_active_runs = 1, overlap = "newest"               => to be one of `"queue"`, `"skip"`, `"cancel_running"` and `"latest"`, got `"newest"`
            overlap = "latest"                                    => `overlap` needs a limit
            max_active_runs = 5m                                  => expected `max_active_runs` to be a whole number, got `5m`
            timeout = 2h                                          => expected `timeout` to be a duration, got `2h`: write it in quotes, `"2h"`
            depends_on_past, max_active_runs = 1, overlap = "latest" => it cancels runs, and with `depends_on_past`
            depends_on_past, max_active_runs = 1, overlap = "cancel_running" => it cancels runs, and with `depends_on_past`
            depends_on_past = true                                => `depends_on_past` takes no value: write it alone, or leave it out
            depends_on_past, depends_on_past                      => option `depends_on_past` is given twice
            depend_on_past                                        => did you mean `depends_on_past`?
            defaults(depends_on_past)                             => unknown option `depends_on_past`
            max_active_runs = 1, overlap = skip                   => got `skip`: did you mean `"skip"`?
            defaults(schedule = "@daily")                         => unknown option `schedule`
            "#,
        );
    }

    #[test]
    fn functions_that_cannot_be_flows_are_refused() {
        check_items(
            flow,
            r#"
            fn a(&self) {}                           => a flow cannot take `self`
            fn a<T>(b: T) -> Node<T> {}              => a flow cannot be generic
            fn a(b: &[u8]) {}                        => write `b: Vec<u8>`
            fn a(b: Node<u8>) {}                     => to pass a node, await it
            fn a(b: Mapped<u8>, (c, d): (u8, u8)) {} => expected a name ;; to pass a node, await it
            fn a(b: impl Display) {}                 => got `impl Display`
            fn a(#[no_cache] b: u8) {}               => `#[no_cache]` is for the inputs of tasks
            fn a(#[resource] b: &B) {}               => a flow takes no resources
            fn a(#[connection("b")] b: &B) {}        => a flow takes no connections, its tasks do: put `#[connection("…")]` on the parameter of a task
            fn a(#[variable("b")] b: u8) {}          => a flow takes no variables, its tasks do
            fn a(#[secret] b: &Secret) {}            => a flow takes no secrets, its tasks do
            fn a(#[context] b: Context) {}           => expected `#[context] b: &Context`
            #[task] fn a() {}                        => a task or a flow, not both
            struct A;                                => got a struct: a flow is a function
            "#,
        );
    }

    #[test]
    fn outputs_that_are_not_nodes_are_refused() {
        check_items(
            flow,
            r#"
            fn a() -> Result<u8> {}               => write `Node<u8>`, or make it an `async fn`
            fn a() -> Result<Node<u8>> {}         => write `Node<u8>`, or make it an `async fn`
            fn a() -> String {}                   => write `Node<String>`
            fn a() -> &str {}                     => write `Node<String>`
            fn a() -> (Node<u8>, u8) {}           => expected a node, got `u8`
            fn a() -> Wired {}                    => if it is an alias
            fn a() -> [Node<u8>; 2] {}            => takes a `Vec<u8>`
            fn a() -> Flow<u8> {}                 => pass the flow to a task that takes its output, `u8`
            fn a() -> Node<&str> {}               => write `String`
            fn a() -> impl FlowReturn {}          => a flow returns nodes
            async fn a() -> u8 {}                 => expected `Result<u8>`, got `u8`
            async fn a() -> Result<Mapped<u8>> {} => return `Result<Vec<u8>>`
            async fn a() -> fmt::Result {}        => write `Result<T>`
            async fn a() -> Result<Result<u8>> {} => return one `Result`
            "#,
        );
    }
}
