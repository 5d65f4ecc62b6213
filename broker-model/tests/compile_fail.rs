//! What must not compile, and what the compiler says of it: the remedy is in the message.
//!
//! `TRYBUILD=overwrite cargo test -p broker-model --test compile_fail` writes the messages anew.

#[test]
fn the_compiler_names_the_remedy() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
