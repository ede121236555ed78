//! Tasks that a macro writes.

use orchestrator::prelude::*;

macro_rules! tasks {
    ($($name:ident: $($argument:ident: $ty:ty),* => $output:ty = $value:expr, $retries:literal, $delay:expr;)*) => { $(
        #[task(retries = $retries, retry_delay = $delay)]
        async fn $name($($argument: $ty),*) -> $output {
            $(let _ = $argument;)*
            $value
        }
    )* };
}

tasks! {
    one: => u32 = 1, 3, "1s";
    two: n: u32, text: &str => Result<u32> = Ok(2), 0, "1m";
    three: list: &[u8] => Option<Vec<u32>> = None, 1, ["1s", "2s"];
}

macro_rules! flow {
    ($name:ident($($argument:ident: $ty:ty),*) -> $output:ty $body:block) => {
        #[flow(defaults(retries = 1))]
        fn $name($($argument: $ty),*) -> $output $body
    };
}

flow! {
    written(n: u32) -> Node<u32> {
        three(vec![1_u8]).after(one());
        two(n, "text")
    }
}

#[test]
fn tasks_of_macros_compile() {
    assert_eq!(written(1).name(), "written");
}
