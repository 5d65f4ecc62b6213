//! What an idle socket costs.

use std::{env, fs, process::Command};

use super::{Ours, host::Host, raw::Client};
use crate::{
    Outcome,
    report::{Report, Row, Target},
    rounds::Scale,
};

/// The first argument of the process that measures idle sockets; behind it how many, the calls of each, and the path.
pub(crate) const MEASURE: &str = "measure-idle-sockets";

/// Prints how many bytes an idle socket holds.
pub(crate) async fn measure(mut arguments: impl Iterator<Item = String>) -> Outcome {
    let (Some(sockets), Some(calls), Some(path)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("for the benchmark alone".into());
    };
    let (sockets, before) = (sockets.parse::<usize>()?, resident()?);
    let held = idle(sockets, calls.parse()?, &path).await?;
    println!("{}", resident()?.saturating_sub(before) as f64 / sockets as f64);
    drop(held);
    Ok(())
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    let sockets = if scale.is_smoke() { 10 } else { 4000 };
    for (what, calls, path, target) in [
        ("2 idle calls, one with a subscription", 2, "/v1/websocket", Some(Target::OursAtMost(12_288.0))),
        ("no call", 0, "/v1/websocket", None),
        ("axum, 4 KiB", 0, "/tuned", None),
        ("axum as it comes", 0, "/default", None),
    ] {
        let name = format!("streams bytes of an idle socket, {what}");
        if report.starts(&name) {
            // In a process of its own: it finds no memory that something else has left.
            let mut process = Command::new(env::current_exe()?);
            let output = process.args([MEASURE, &sockets.to_string(), &calls.to_string(), path]).output()?;
            let bytes = String::from_utf8(output.stdout)?.trim().parse::<f64>();
            let bytes = bytes.map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
            report.add(Row::alone(name, "B", bytes).target(target).notes(format!("{sockets} of them")));
        }
    }
    Ok(())
}

/// The memory that this process holds.
fn resident() -> Outcome<usize> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split_whitespace().nth(1).ok_or("no number of pages")?;
    Ok(pages.parse::<usize>()? * 4096)
}

async fn idle(sockets: usize, calls: usize, path: &str) -> Outcome<(Host, Vec<Client>)> {
    let host = Host::start()?;
    let mut clients = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let mut client = Client::connect(host.address, path).await?;
        for number in 0..calls {
            let method = if number == 0 { "idle" } else { "forever" };
            Ours { endpoint: "bench", method, inputs: &[] }.open_as(&mut client, number).await?;
        }
        // Of the client nothing is kept but its connection.
        clients.push(client.idle());
    }
    Ok((host, clients))
}
