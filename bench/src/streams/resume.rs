//! Resume: calls that go on after their sockets were cut.

use std::{
    net::Shutdown,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use broker_streams_client::{CallEvents, Client, Event, Resumption, Status};
use futures_util::future::try_join_all;
use socket2::{SockRef, Socket};
use tokio::net::TcpStream;

use super::{
    host::{Host, Setup},
    methods::Said,
};
use crate::{
    Outcome,
    recovery::within,
    report::{Report, Row, Target},
    rounds::{Scale, Spread},
};

/// Posted before the cut, so that some are on their way, and the same number while there is no connection.
const POSTS: usize = 8;

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    let calls = if scale.is_smoke() { 8 } else { 1000 };
    // As many sockets as the default limit of 256 calls of each asks for; and one, with that limit raised.
    for (sockets, target) in [(4, Some(Target::OursAtMost(250.0))), (1, Some(Target::OursAtMost(250.0)))] {
        let name = format!("streams resume after a cut, {calls} calls on {sockets} sockets");
        if !report.starts(&name) {
            continue;
        }
        let cuts = scale.of(40, 1);
        let seen = within(&name, resume(sockets, calls / sockets, cuts)).await??;
        let spread =
            |of: fn(&Cut) -> Duration| Spread::of(seen.cuts.iter().map(|cut| of(cut).as_secs_f64() * 1000.0));
        let (at_once, by_itself) = (spread(|cut| cut.at_once), spread(|cut| cut.by_itself));
        let notes = format!(
            "median {:.0}; {cuts} cuts, {} values lost, {} doubled; with the client's own wait {:.0}, at most {:.0}",
            at_once.median, seen.lost, seen.doubled, by_itself.median, by_itself.high
        );
        report.add(Row::alone(name, "ms, the slowest", at_once.high).target(target).notes(notes));
    }
    Ok(())
}

#[derive(Default)]
struct Seen {
    cuts: Vec<Cut>,
    lost: u64,
    doubled: u64,
}

/// From a cut until every call has every value.
struct Cut {
    /// When the client is told that there is a network.
    at_once: Duration,
    /// When it waits for its own time.
    by_itself: Duration,
}

async fn resume(sockets: usize, calls: usize, cuts: usize) -> Outcome<Seen> {
    let mut setup = Setup::default();
    setup.limits.calls_per_socket = setup.limits.calls_per_socket.max(calls);
    let host = Host::of(setup)?;
    let mut wires = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..sockets {
        let wire = Wire::new(&host, calls)?;
        let opening = (0..calls).map(|_| wire.client.call("bench", "kept").resume().open::<Said>());
        streams.extend(try_join_all(opening).await?.into_iter().map(|stream| Reader::new(stream.events())));
        wires.push(wire);
    }
    let mut seen = Seen::default();
    let mut posted = 0;
    for _ in 0..cuts {
        let at_once = cut(&host, &wires, &mut streams, &mut posted, true).await?;
        let by_itself = cut(&host, &wires, &mut streams, &mut posted, false).await?;
        seen.cuts.push(Cut { at_once, by_itself });
    }
    seen.lost = streams.iter().map(|stream| stream.lost).sum();
    seen.doubled = streams.iter().map(|stream| stream.doubled).sum();
    if seen.lost + seen.doubled > 0 {
        return Err(format!("{} values were lost, and {} came twice", seen.lost, seen.doubled).into());
    }
    Ok(seen)
}

/// Posts, cuts every socket, posts again, and waits until every call has all of it.
async fn cut(
    host: &Host,
    wires: &[Wire],
    readers: &mut [Reader],
    posted: &mut u64,
    report_online: bool,
) -> Outcome<Duration> {
    post(host, posted).await?;
    let began = Instant::now();
    for wire in wires {
        wire.cut()?;
    }
    post(host, posted).await?;
    let last = *posted;
    let waking = async {
        if report_online {
            try_join_all(wires.iter().map(Wire::report_online)).await?;
        }
        Outcome::Ok(())
    };
    let reading = try_join_all(readers.iter_mut().map(|reader| reader.read_until(last)));
    let (woken, read) = tokio::join!(waking, reading);
    woken?;
    read?;
    Ok(began.elapsed())
}

async fn post(host: &Host, posted: &mut u64) -> Outcome {
    for _ in 0..POSTS {
        *posted += 1;
        host.post(&Said { text: posted.to_string() }, 1).await?;
    }
    Ok(())
}

/// A client, and the connection that it has at the time.
struct Wire {
    client: Client,
    connection: Arc<Mutex<Option<Socket>>>,
}

impl Wire {
    fn new(host: &Host, calls: usize) -> Outcome<Self> {
        let connection = Arc::new(Mutex::new(None));
        let (address, kept) = (host.address, Arc::clone(&connection));
        let client = Client::builder(&format!("ws://{address}/v1/websocket"))
            .connector(move || {
                let kept = Arc::clone(&kept);
                async move {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    let clone = SockRef::from(&stream).try_clone()?;
                    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(clone);
                    Ok(stream)
                }
            })
            .max_calls(calls)
            .build()?;
        Ok(Self { client, connection })
    }

    fn cut(&self) -> Outcome {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(connection.ok_or("there is no connection to cut")?.shutdown(Shutdown::Both)?)
    }

    /// As a platform does when it has a network again: the client tries at once.
    async fn report_online(&self) -> Outcome {
        let mut changes = self.client.status_changes();
        while let Some(status) = changes.next().await {
            if matches!(status, Status::Waiting { .. }) {
                self.client.report_online();
                return Ok(());
            }
        }
        Err("the client has ended".into())
    }
}

/// Reads a call, and counts what is missing and what comes twice.
struct Reader {
    events: CallEvents<Said>,
    last: u64,
    lost: u64,
    doubled: u64,
}

impl Reader {
    const fn new(events: CallEvents<Said>) -> Self {
        Self { events, last: 0, lost: 0, doubled: 0 }
    }

    async fn read_until(&mut self, last: u64) -> Outcome {
        while self.last < last {
            match self.events.next().await.ok_or("a call has ended")?? {
                Event::Value(said) => {
                    let number: u64 = said.text.parse()?;
                    self.lost += number.saturating_sub(self.last + 1);
                    self.doubled += u64::from(number <= self.last);
                    self.last = self.last.max(number);
                }
                Event::Resumed(Resumption::Exact) => {}
                other => return Err(format!("instead of an exact resumption: {other:?}").into()),
            }
        }
        Ok(())
    }
}
