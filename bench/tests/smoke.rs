//! Every scenario runs once, tiny, so that the program cannot rot.

use broker_conformance::required;
use std::process::Command;

#[test]
fn every_scenario_has_a_row() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).into_os_string();
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg("--smoke")
        .args(["--json".into(), file("rows.json"), "--svg".into(), file("chart.svg")])
        .output()
        .expect("the program runs");
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{failed}");
    let rows = std::fs::read_to_string(directory.path().join("rows.json")).expect("the rows");
    let chart = std::fs::read_to_string(directory.path().join("chart.svg")).expect("the chart");
    let report: serde_json::Value = serde_json::from_str(&rows).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    let mut expected = vec![
        "local raw",
        "local typed",
        "local post to each",
        "local subscribe",
        "bytes",
        "allocations",
        "memory 64 B, one caller",
        "memory streams, revoked",
        "streams echo",
        "streams 1 posts",
        "streams bytes",
        "streams open",
        "streams resume",
        "streams a reader that stopped",
    ];
    // Servers that must be there; see `cargo xtask test`.
    if required("redis") {
        expected.push("two processes over redis");
    }
    expected.extend(["redis", "nats", "rabbitmq", "postgres"].into_iter().filter(|name| required(name)));
    for start in expected {
        let of =
            |row: &&serde_json::Value| row["scenario"].as_str().is_some_and(|name| name.starts_with(start));
        assert!(rows.iter().any(|row| of(&row)), "no row of {start}: {said}\n{failed}");
    }
    assert!(rows.iter().all(|row| row["ours"].as_f64().is_some_and(|ours| ours > 0.0)), "{said}");
    assert!(chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"), "{chart}");
}

#[test]
fn a_run_is_compared_with_an_earlier_one() {
    let run = |earlier: &str| {
        Command::new(env!("CARGO_BIN_EXE_bench"))
            .args(["--smoke", "local raw fan-out 1→1, window 512", "--against"])
            .arg(format!("{}/{earlier}", env!("CARGO_MANIFEST_DIR")))
            .output()
            .expect("the program runs")
    };
    let output = run("results.json");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(" of 2 ratios lie within the spread"), "{said}");
    // Told before the run, which takes minutes.
    for earlier in ["RESULTS.md", "nothing.json"] {
        let output = run(earlier);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        assert!(failed.contains(earlier) && failed.contains("--json"), "{failed}");
    }
}
