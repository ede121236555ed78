//! `#[task]`: parse, check, expand.

mod check;
mod code;
mod expand;
mod fallback;
mod model;
mod parse;
mod shared;

use crate::attribute::fallback::Errors;
use crate::attribute::signature::{Noun, UserFunction};
use proc_macro2::TokenStream;

/// Returns the function that creates nodes of the task, which contains the user's function.
pub(crate) fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = match UserFunction::read(Noun::Task, item) {
        Ok(function) => function,
        Err(tokens) => return tokens,
    };
    let (mut in_options, mut in_function) = (Errors::default(), Errors::default());
    let task = parse::task(options, function, &mut in_options);
    check::options(&task, &mut in_options);
    check::function(&task, &mut in_function);
    if in_function.is_empty() {
        return in_options.with(expand::task(&task));
    }
    in_options.append(in_function);
    fallback::task(&task.function, &in_options)
}

#[cfg(test)]
mod tests {
    use super::task;
    use crate::attribute::fallback::tests::{check_items, check_options};
    use proc_macro2::TokenStream;

    const RIGHT: &str = "async fn load(rows: &[Row]) -> Result<u64> { Ok(1) }";

    #[test]
    fn right_tasks_have_no_errors() {
        check_options(
            task,
            RIGHT,
            r#"
            retries = 0, retry_delay = "0s", max_retry_delay = "0s", backoff = 1
            trigger = "all_done", retry_if = my::own::<A, B>, tags = [], description = r"text",
            trigger = all_done, run_on_cancel
            run_on_cancel, trigger = always, retries = 1
            cache
            version = "2", cache = "1h", cache_key = my::own::<A, B>
            "#,
        );
        check_items(
            task,
            r#"
            async fn load(rows: &[Row]) -> Result<u64> { Ok(1) }
            fn nothing() {}
            pub(crate) async fn a(mut a: u8, b: &str, #[resource] c: &C, #[context] d: &Context) -> B {}
            fn a(a: &(A), b: (B), c: Option<[C; 3]>, d: Cow<'static, str>, e: fn(&str) -> u8) {}
            fn a(#[resource] a: &Box<dyn A>, #[resource] b: &(B, Vec<B>)) -> tree::Node<u8> {}
            fn a() { struct A; impl A { fn a() -> Self { Self } } }
            async fn a(#[connection("a")] a: &A, #[variable("b.B-_0")] b: &str, #[secret("c")] c: &orchestrator::Secret) {}
            fn a(#[connection("a")] a: &A, #[connection(r"a",)] b: &Box<dyn B>, #[secret("a")] c: &Secret, #[allow(unused)] #[secret("a")] d: &(Secret)) {}
            fn a(#[variable("a")] mut a: A, #[variable("b")] b: &B, #[variable("c")] c: &[C], #[variable("d")] d: Option<String>) {}
            "#,
        );
        check_cached(
            "",
            "async fn a(#[no_cache] b: u8, #[no_cache] #[allow(unused)] c: &str) {}",
            &[],
        );
        check_cached(
            "cache_key = d",
            "async fn a(#[no_cache] #[variable(\"b\")] b: u8, #[variable(\"c\")] #[no_cache] c: &str) {}",
            &[],
        );
    }

    fn check_cached(options: &str, item: &str, expected: &[&str]) {
        let cases = format!(
            "cache, {options} {}{}",
            if expected.is_empty() { "" } else { "=> " },
            expected.join(" ;; ")
        );
        check_options(task, item, &cases);
    }

    #[test]
    fn options_that_are_wrong_are_named() {
        check_options(
            task,
            RIGHT,
            r#"
            colour = 3                                                => unknown option `colour`: the documentation of `#[task]` lists its options
            timout = 3                                                => unknown option `timout`; did you mean `timeout`?
            retry = 3                                                 => unknown option `retry`; did you mean `retry_if` or `retry_delay`?
            max_active_runs = 3                                       => unknown option `max_active_runs`: it is one of `#[flow]`
            schedule = "@daily"                                       => unknown option `schedule`: it is one of `#[flow]`
            resources = [A]                                           => unknown option `resources`: it is one of `#[flow]`
            connections = ["a"]                                       => unknown option `connections`: a task takes it as a parameter, marked `#[connection("postgres_default")]`
            variable = "a"                                            => a task takes it as a parameter, marked `#[variable("batch_size")]`
            secrets("a")                                              => a task takes it as a parameter, marked `#[secret("scoring_api_key")]`
            retries = 3, pool = "a", retries = 3                      => option `retries` is given twice
            "load"                                                    => expected an option such as `name = "extract"`
            retries: 3                                                => expected `retries = 3`
            retries =                                                 => `retries` needs a value: write `retries = 3`
            retries = , timeout                                       => `retries` needs a value ;; `timeout` needs a value
            retries = -1                                              => expected `retries` to be a whole number, got `-1`
            retries = MANY                                            => expected `retries` to be a whole number, got `MANY`
            retries = 3 4, pool = 5                                   => expected a comma ;; expected `pool` to be a string, got `5`
            retries = 101                                             => expected `retries` to be at most 100, got 101
            backoff = "2"                                             => expected `backoff` to be a number
            backoff = 1e999                                           => expected `backoff` to be a factor
            timeout = soon()                                          => got `soon()`: write a number with a unit in quotes
            timeout = "0ms"                                           => expected `timeout` to be greater than zero
            retry_delay = []                                          => expected at least one delay
            retry_delay = ["1s", 2, "x"]                              => got `2`: a number has no unit
            retry_delay = ["1s"], max_retry_delay = "1m", backoff = 2 => `backoff` cannot be combined ;; `max_retry_delay` cannot
            retry_delay = "2s", max_retry_delay = "1s"                => at least the `retry_delay` of "2s", got "1s"
            retry_if = |_| true                                       => expected `retry_if` to be the path of a function
            retry_if = Self::transient                                => expected the type's name, got `Self`
            trigger = OneFailed                                       => unknown trigger rule `OneFailed`; did you mean `one_failed`?
            trigger = 3                                               => expected `trigger` to be a name
            trigger = all_done, run_on_cancel = true                  => `run_on_cancel` takes no value
            trigger = all_done, run_on_cancel, run_on_cancel          => option `run_on_cancel` is given twice
            run_on_cancel                                             => `run_on_cancel` needs a trigger rule
            trigger = all_failed, run_on_cancel                       => which `all_failed` cannot: write `trigger = all_done, run_on_cancel`
            pool = " "                                                => expected `pool` to name a pool
            pool_slots = 1                                            => `pool_slots` needs a pool
            pool = "a", pool_slots = 0                                => expected `pool_slots` to be from 1
            name = ""                                                 => `name` must not be empty
            name = "a b"                                              => `name` must not contain white space
            tags = ["a", "b", "a", ""]                                => tag `a` is given twice ;; expected a tag, got an empty string
            cache = "0s"                                              => expected `cache` to be greater than zero
            cache = false                                             => got `false`: write `cache` alone to keep results forever
            cache = 3600, version = "2"                               => got `3600`: a number has no unit, write `"3600s"`
            cache =                                                   => `cache` needs a value: write `cache = "1h"`
            cache("1h")                                               => expected `cache = "1h"`
            cache = "1h", cache                                       => option `cache` is given twice
            version = "2", cache_key = day_of                         => `cache_key` needs a cache ;; `version` needs a cache
            cache, version = " "                                      => expected `version` to name the version of the code
            cache, version = 2                                        => expected `version` to be a string, got `2`
            cache, cache_key = |_| 1                                  => expected `cache_key` to be the path of a function
            cache, cache_key = Self::day                              => expected the type's name, got `Self`
            tags = [a]                                                => expected `tags` to be a list of strings, got `[a]`
            "#,
        );
    }

    #[test]
    fn long_names_are_refused_by_name() {
        let long = "x".repeat(251);
        let tags: Vec<String> = (0..51).map(|number| format!("\"{number}\"")).collect();
        for (options, expected) in [
            (
                format!("name = \"{long}\""),
                "`name` is too long: expected at most 250 bytes, got 251: `xxx",
            ),
            (
                format!("pool = \"{long}\""),
                "the name of the pool is too long: expected at most 250 bytes, got 251",
            ),
            (
                format!("tags = [\"{}\"]", &long[..101]),
                "the tag is too long: expected at most 100 bytes, got 101",
            ),
            (
                format!("tags = [{}]", tags.join(", ")),
                "expected at most 50 tags",
            ),
        ] {
            check_options(task, RIGHT, &format!("{options} => {expected}"));
        }
        check_options(
            task,
            RIGHT,
            &format!("name = \"{}\", tags = [\"{}\"]", &long[..250], &long[..100]),
        );
    }

    #[test]
    fn functions_that_cannot_be_tasks_are_refused() {
        check_items(
            task,
            r#"
            const fn a() {}                            => cannot be `const`
            extern "C" fn a() {}                       => cannot be `extern`
            unsafe fn a() {}                           => cannot be `unsafe`
            fn a<'a>(a: &'a str) -> &'a str { a }      => cannot be generic
            fn a() where u8: Copy {}                   => cannot have a `where` clause
            fn a(self) {}                              => cannot take `self`
            fn a(self: Box<Self>, b: &Self) -> Self {} => cannot take `self`
            fn a(b: Vec<Self>) { vec![Self] }          => expected the type's name, got `Self`
            fn a() { vec![1, Self::B] }                => expected the type's name, got `Self`
            fn a() { fn b() -> Self {} }               => expected the type's name, got `Self`
            #[my::task] fn a() {}                      => `#[task]` is given twice
            fn a();                                    => got a trait's method
            impl A {}                                  => got an impl block
            mod a {}                                   => got a module
            "#,
        );
    }

    #[test]
    fn parameters_that_cannot_be_inputs_are_refused() {
        check_items(
            task,
            r#"
            fn a(ref b: u8) {}                                 => write `b: u8`
            fn a(b @ c: u8) {}                                 => write `b: u8`
            fn a(A { b }: A) {}                                => write `value: A` and destructure it
            fn a(b: impl A) {}                                 => expected the name of a type, got `impl A`
            fn a(b: &dyn A, c: Vec<_>, d: Cow<'_, str>) {}     => got `dyn A` ;; got `_` ;; got the lifetime `'_`
            fn a(b: &'b [u8]) {}                               => write `&[u8]`
            fn a(b: &mut str) {}                               => write `mut b: String`
            fn a(b: Vec<&[u8]>) {}                             => got the reference `&[u8]`: write `Vec<u8>`
            fn a(b: Mapped<u8>, c: &orchestrator::Flow<u8>) {} => takes the value, `Vec<u8>` ;; the flow passes the flow
            fn a(#[cfg(b)] b: u8) {}                           => cannot depend on `cfg`
            fn a(#[doc = "b"] b: u8) {}                        => has no documentation
            fn a(#[contxt] b: &Context) {}                     => did you mean `#[context]`? (for parameters: `#[resource]`, `#[context]`, `#[connection("…")]`, `#[variable("…")]`, `#[secret("…")]` and `#[no_cache]`)
            fn a(#[conection("b")] b: &B) {}                   => did you mean `#[connection("…")]`?
            fn a(#[secrets("b")] b: &Secret) {}                => did you mean `#[secret("…")]`?
            fn a(#[env("b")] b: &str) {}                       => unknown attribute `#[env]` (for
            fn a(#[resource(1)] b: &B) {}                      => expected `#[resource]` alone
            fn a(#[resource] #[context] b: &B) {}              => expected one of `#[resource]`, `#[context]`, `#[connection("…")]`, `#[variable("…")]` and `#[secret("…")]`, once
            fn a(#[context] b: &mut Context) {}                => expected `#[context] b: &Context`, got `&mut Context`
            fn a(#[resource] b: &str) {}                       => wrap the `String` in a struct
            fn a(#[resource] b: &'static B) {}                 => write `&B`
            fn a(#[resource] b: &impl B) {}                    => got `impl B`
            "#,
        );
    }

    #[test]
    fn names_in_marks_are_strings_in_parentheses() {
        check_items(
            task,
            r#"
            fn a(#[connection] b: &B) {}                           => `#[connection]` needs the name of a connection: write `#[connection("postgres_default")]`
            fn a(#[variable()] b: &str) {}                         => `#[variable]` needs the name of a variable: write `#[variable("batch_size")]`
            fn a(#[secret[]] b: &Secret) {}                        => `#[secret]` needs the name of a secret: write `#[secret("scoring_api_key")]`
            fn a(#[connection("")] b: &B) {}                       => expected a name of at least one character
            fn a(#[variable("a b")] b: &str) {}                    => expected a name of letters, digits, `_`, `-` and `.`, got ' ' in "a b"
            fn a(#[secret("../b")] b: &Secret) {}                  => does not begin with a dot
            fn a(#[connection("postgres://a:p@b")] b: &B) {}       => got a URL: write a name such as `"postgres_default"`
            fn a(#[connection = "b"] b: &B) {}                     => expected the name in parentheses: write `#[connection("b")]`
            fn a(#[variable = B] b: &str) {}                       => expected the name in parentheses: write `#[variable("batch_size")]`
            fn a(#[secret["b"]] b: &Secret) {}                     => expected the name in parentheses: write `#[secret("b")]`
            fn a(#[secret{"b"}] b: &Secret) {}                     => expected the name in parentheses: write `#[secret("b")]`
            fn a(#[connection(b)] b: &B) {}                        => expected the name in quotes, got `b`: write `#[connection("b")]`
            fn a(#[connection(id = "b")] b: &B) {}                 => got `id = "b"`: write `#[connection("b")]`
            fn a(#[connection(B)] b: &B) {}                        => expected the name of a connection in quotes, got `B`: the names are known before anything runs; if this one is data, call `context.connection(…)` in the body
            fn a(#[variable(a::B)] b: u8) {}                       => got `a::B`
            fn a(#[variable(concat!("a", "b"))] b: u8) {}          => call `context.variable(…)` in the body
            fn a(#[secret(format!("b"))] b: &Secret) {}            => call `context.secret(…)` in the body
            fn a(#[secret(7)] b: &Secret) {}                       => expected the name of a secret in quotes, got `7`
            fn a(#[secret(b"b")] b: &Secret) {}                    => expected the name of a secret in quotes
            fn a(#[connection("b", "c")] b: &B) {}                 => expected one name: a parameter takes one connection
            fn a(#[variable("b", default = 3)] b: u8) {}           => expected the name alone, without options: write `#[variable("b")]`
            fn a(#[connection("b" "c")] b: &B) {}                  => expected `#[connection("postgres_default")]`
            fn a(#[connection("b")] #[resource] b: &B) {}          => expected one of `#[resource]`, `#[context]`, `#[connection
            fn a(#[secret("b")] #[secret("c")] b: &Secret) {}      => and `#[secret("…")]`, once
            fn a(#[connection("b")] (b, c): &B) {}                 => expected a name, got the pattern
            fn a(#[variable("b")] _: u8) {}                        => write `_unused: u8`
            "#,
        );
        let long = format!("fn a(#[variable(\"{}\")] b: u8) {{}}", "x".repeat(201));
        check_items(
            task,
            &format!("{long} => expected at most 200 bytes, got 201"),
        );
    }

    #[test]
    fn clients_variables_and_secrets_have_types_that_fit() {
        check_items(
            task,
            r#"
            fn a(#[connection("b")] c: B) {}                       => expected `#[connection("b")] c: &B`, got `B`: tasks share a client, so they borrow it
            fn a(#[connection("b")] c: &mut B) {}                  => expected `&B`, got `&mut B`: tasks share a client; if they change it
            fn a(#[connection("b")] c: &'static B) {}              => expected a reference without a lifetime: write `&B`
            fn a(#[connection("b")] c: &str) {}                    => expected a client, got `&str`
            fn a(#[connection("b")] c: &[u8]) {}                   => expected a client, got `&[u8]`
            fn a(#[connection("b")] c: &dyn B) {}                  => expected the type of a client, got `dyn B`
            fn a(#[connection("b")] c: &impl B) {}                 => expected the type of a client, got `impl B`
            fn a(#[connection("b")] c: &B<'_>) {}                  => got the lifetime `'_`
            fn a(#[connection("b")] c: &B<_>) {}                   => got `_`
            fn a(#[connection("b")] c: &&B) {}                     => got the reference `&B`: write `B`
            fn a(#[variable("b")] c: Node<u8>) {}                  => expected plain data, got `Node<u8>`: a variable is read from a text; write for example `u8`
            fn a(#[variable("b")] c: &'static str) {}              => expected a reference without a lifetime, got `&'static str`
            fn a(#[variable("b")] c: &mut String) {}               => write `mut c: String`
            fn a(#[variable("b")] c: Vec<&str>) {}                 => got the reference `&str`: write `String`
            fn a(#[variable("b")] c: impl B) {}                    => got `impl B`
            fn a(#[variable("b")] c: &dyn B) {}                    => got `dyn B`
            fn a(#[variable("b")] c: Cow<'_, str>) {}              => got the lifetime `'_`
            fn a(#[secret("b")] c: Secret) {}                      => expected `#[secret("b")] c: &Secret`, got `Secret`: tasks share a secret, so they borrow it
            fn a(#[secret("b")] c: &mut orchestrator::Secret) {}   => expected `#[secret("b")] c: &orchestrator::Secret`, got `&mut
            fn a(#[secret("b")] c: &'static Secret) {}             => expected `#[secret("b")] c: &Secret`, got `&'static Secret`
            fn a(#[secret("b")] c: &str) {}                        => expected `#[secret("b")] c: &Secret`, got `&str`: `c.expose()` returns the text
            fn a(#[secret("b")] c: String) {}                      => expected `#[secret("b")] c: &Secret`, got `String`: `c.expose()` returns the text
            fn a(#[secret("b")] c: &Secret<u8>) {}                 => expected `#[secret("b")] c: &Secret`, got `&Secret<u8>`
            "#,
        );
    }

    #[test]
    fn what_is_no_input_does_not_count() {
        let inputs: Vec<String> = (0..12).map(|number| format!("i{number}: u8")).collect();
        let named =
            r#"#[variable("a")] a: u8, #[connection("b")] b: &B, #[secret("c")] c: &Secret"#;
        check_items(task, &format!("fn a({named}, {}) {{}}", inputs.join(", ")));
        for (options, item) in [
            ("", format!("fn a({named}, d: u8) {{}}")),
            // a stand-in has the same parameters
            (
                "retires = 1",
                format!("fn a({named}, d: u8, #[e] f: u8) {{}}"),
            ),
        ] {
            let parse = |code: &str| code.parse::<TokenStream>().expect(code);
            let expansion = task(parse(options), parse(&item))
                .to_string()
                .replace(' ', "");
            let parameters = "fna(d:impl::orchestrator::__private::IntoInput<u8>";
            assert!(expansion.contains(parameters), "{expansion}");
        }
    }

    #[test]
    fn inputs_and_requirements_are_numbered_apart() {
        let item = r#"fn a(b: u8, #[variable("n")] c: u8, #[resource] d: &D, #[secret("n")] e: &Secret,
            f: u8, #[no_cache] #[variable("m")] g: &str, #[connection("n")] h: &H) {}"#;
        let parse = |code: &str| code.parse::<TokenStream>().expect(code);
        let expansion = task(parse("cache"), parse(item))
            .to_string()
            .replace(' ', "");
        let mut rest = &*expansion;
        // in the order of the expansion
        for part in [
            r#"Requirement{name:"n",parameter:"c",type_name:"u8",kind:"#,
            "RequirementKind::Variable{parse:::orchestrator::__private::parse_variable::<u8>,in_key:true}",
            r#"Requirement{name:"n",parameter:"e",type_name:"&Secret",kind:::orchestrator::__private::RequirementKind::Secret"#,
            "parse_variable::<::std::string::String>,in_key:false}",
            r#"name:"n",parameter:"h",type_name:"&H",kind:::orchestrator::__private::RequirementKind::Connection("#,
            "ClientDef::of::<H>()",
            "Call::owned(call_,0usize)",
            "Call::variable(call_,0usize)",
            "Call::resource::<D>(call_)",
            "Call::secret(call_,1usize)",
            "Call::owned(call_,1usize)",
            "Call::variable::<::std::string::String>(call_,2usize)",
            "Call::client::<H>(call_,3usize)",
        ] {
            let at = rest
                .find(part)
                .unwrap_or_else(|| panic!("{part} in {rest}"));
            rest = &rest[at + part.len()..];
        }
    }

    #[test]
    fn no_cache_needs_an_input_of_a_cached_task() {
        check_items(
            task,
            r#"
            fn a(#[no_cache] b: u8) {}                  => `#[no_cache]` needs a cache
            fn a(#[no_cache] #[variable("b")] b: u8) {} => `#[no_cache]` needs a cache
            "#,
        );
        for (options, item, expected) in [
            (
                "cache_key = c",
                "fn a(#[no_cache] b: u8) {}",
                "do not use `b` in the function",
            ),
            (
                "",
                "fn a(#[no_cache] #[resource] b: &B) {}",
                "a resource is never part of a cache key",
            ),
            (
                "",
                "fn a(#[context] #[no_cache] b: &Context) {}",
                "the context is never part of a cache key",
            ),
            (
                "",
                "fn a(#[no_cache] #[connection(\"b\")] b: &B) {}",
                "a connection is never part of a cache key: leave `#[no_cache]` out",
            ),
            (
                "",
                "fn a(#[secret(\"b\")] #[no_cache] b: &Secret) {}",
                "a secret is never part of a cache key: leave `#[no_cache]` out",
            ),
            (
                "",
                "fn a(#[no_cache] #[no_cache] b: u8) {}",
                "`#[no_cache]` is given twice",
            ),
            (
                "",
                "fn a(#[no_cache(always)] b: u8) {}",
                "expected `#[no_cache]` alone",
            ),
            (
                "",
                "fn a(#[nocache] b: u8) {}",
                "did you mean `#[no_cache]`?",
            ),
        ] {
            check_cached(options, item, &[expected]);
        }
    }

    #[test]
    fn outputs_that_are_not_data_are_refused() {
        check_items(
            task,
            r#"
            fn a() -> &str {}                          => write `String`
            fn a() -> Result<Option<&'static [u8]>> {} => write `Vec<u8>`
            fn a() -> impl Future<Output = u8> {}      => got a future: write `async fn`
            fn a() -> Box<dyn Future<Output = u8>> {}  => got a future: write `async fn`
            fn a() -> impl Display {}                  => got `impl Display`
            fn a() -> ! {}                             => got `!`
            fn a() -> Result<_> {}                     => got `_`
            fn a() -> io::Result {}                    => write `Result<T>`
            fn a() -> Result<Result<u8>> {}            => return one `Result`
            fn a() -> Mapped<u8> {}                    => such as `Vec<u8>`
            "#,
        );
    }

    #[test]
    fn a_mistake_leaves_a_function_of_that_name() {
        for (options, item) in [
            (
                "retires = 1",
                "async fn load(rows: &[Row]) -> Result<u64> { Ok(1) }",
            ),
            (
                "",
                "async fn load(rows: &[Row], (a, b): (A, B)) -> Result<u64> { Ok(1) }",
            ),
        ] {
            let parse = |code: &str| code.parse::<TokenStream>().expect(code);
            let expansion = task(parse(options), parse(item))
                .to_string()
                .replace(' ', "");
            for part in [
                "fnload(rows:impl::orchestrator::__private::IntoInput<::std::vec::Vec<Row>>",
                "->::orchestrator::__private::Node<u64>",
            ] {
                assert!(expansion.contains(part), "{part} in {expansion}");
            }
        }
    }
}
