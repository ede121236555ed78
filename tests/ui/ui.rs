//! What the compiler says: one mistake a file in `fail/`, named by the mistake, with the message
//! beside it. What is right is compiled with these tests, in `pass/`, and warnings are errors
//! there.
//!
//! The texts are those of the current stable compiler. `TRYBUILD=overwrite cargo test -p tests-ui`
//! writes them anew; read what it changed as a user would.

mod pass;

#[test]
fn mistakes_are_named() {
    trybuild::TestCases::new().compile_fail("fail/*.rs");
}
