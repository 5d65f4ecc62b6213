//! A streaming method that fails by an error of its own, which is no fault.
use broker_model::Failure;

#[derive(Debug)]
struct Broken;

fn method() -> Result<(), Failure> {
    Err(Broken)?;
    Ok(())
}

fn main() {}
