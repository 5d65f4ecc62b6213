//! Values that come back, beside bare texts that do.

use futures_util::future::try_join_all;

use super::{
    Ours,
    host::Host,
    methods::Said,
    raw::{Client, frame},
    value,
};
use crate::{
    Outcome,
    report::{Report, Row, Target},
    rounds::{Round, Scale, alternate},
};

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    for (sockets, window, path, peer, target) in [
        (64, 1, "/tuned", "axum, 4 KiB, bare text", Some(Target::AtMost(1.6))),
        (64, 1, "/default", "axum as it comes, bare text", None),
        (32, 32, "/tuned", "axum, 4 KiB, bare text", None),
        (32, 32, "/default", "axum as it comes, bare text", None),
    ] {
        let name = format!("streams echo, {sockets} sockets, {window} in flight, {peer}");
        if !report.starts(&name) {
            continue;
        }
        let pairs = echo(scale, sockets, window, path).await?;
        report.add(Row::cpu(name.clone(), peer, &pairs).target(target));
        if window > 1 {
            let rate = (path == "/default").then_some(Target::AtLeast(2.0));
            report.add(Row::rates(format!("{name}, rate"), "values/s", peer, &pairs).target(rate));
        }
    }
    Ok(())
}

async fn echo(scale: Scale, sockets: usize, window: usize, path: &str) -> Outcome<Vec<(Round, Round)>> {
    let host = Host::start()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..sockets {
        let mut client = Client::connect(host.address, "/v1/websocket").await?;
        Ours { endpoint: "bench", method: "echo", inputs: &["input"] }.open(&mut client).await?;
        ours.push(client);
        theirs.push(Client::connect(host.address, path).await?);
    }
    let said = Said { text: "x".repeat(26) };
    let sent = frame(&value("echo", Some("input"), &said)).repeat(window);
    let times = scale.of(if window == 1 { 4000 } else { 1000 }, 1);
    alternate(
        scale,
        async || host.time(times * window * sockets, exchange(&mut ours, &sent, window, times)).await,
        async || host.time(times * window * sockets, exchange(&mut theirs, &sent, window, times)).await,
    )
    .await
}

/// Each client sends a window, and waits for all of it to come back.
async fn exchange(clients: &mut [Client], sent: &[u8], window: usize, times: usize) -> Outcome {
    let one = async |client: &mut Client| {
        for _ in 0..times {
            client.write(sent).await?;
            client.skip(window).await?;
        }
        Outcome::Ok(())
    };
    try_join_all(clients.iter_mut().map(one)).await?;
    Ok(())
}
