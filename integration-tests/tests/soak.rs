//! One minute of the soak on every backend, side by side.

use std::process::Command;

#[test]
fn a_minute_under_faults_loses_nothing_silently() {
    let soak = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--minutes", "1", "--rate", "300", "--no-shrink"])
        .output();
    let soak = soak.expect("the soak to start");
    let (output, errors) = (String::from_utf8_lossy(&soak.stdout), String::from_utf8_lossy(&soak.stderr));
    println!("{output}");
    assert!(soak.status.success(), "{}\n{output}\n{errors}", soak.status);
    assert!(output.contains("unexplained         0"), "{output}");
}

#[test]
fn bad_input_is_named() {
    for (arguments, named) in [
        (["--backend", "kafka"], "kafka"),
        (["--minutes", "0"], "0.05"),
        (["--nodes", "0"], "1..=20"),
        (["--seed", "x"], "x"),
    ] {
        let soak = Command::new(env!("CARGO_BIN_EXE_soak")).args(arguments).output();
        let soak = soak.expect("the soak to start");
        let errors = String::from_utf8_lossy(&soak.stderr);
        assert!(!soak.status.success() && errors.contains(named), "{arguments:?}: {errors}");
    }
}
