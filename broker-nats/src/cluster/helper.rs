//! Helper: a connection to another server of the cluster, which answers what the link asks there.

use std::{sync::Arc, time::Duration};

use async_nats::Client;
use broker_core::{Error, ErrorKind, Result, driver::Inbox};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::{
    select,
    time::{Instant, sleep, timeout},
};

use super::{
    Shared,
    member::{Helper, Member, PATIENCE},
};
use crate::{client_thread::ClientThread, opening};

/// How long it may take to open one.
const OPENING: Duration = Duration::from_secs(5);
/// The time between two attempts, at first and at most. Beyond that a server that was away may take in clients before
/// anybody asks it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// After the first of these, an address at which no server was ever found is tried each time after the second: this machine
/// may not be able to reach it at all.
const NEVER_FOUND: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));
/// How often somebody looks who is at an address where no helper is needed.
const NEEDLESS: Duration = Duration::from_secs(5);

/// Keeps a helper at a server for as long as anybody wants it.
pub(super) async fn keep(shared: Arc<Shared>, member: Arc<Member>) {
    let (mut pause, began) = (PAUSES.0, Instant::now());
    loop {
        match connect(&shared, &member).await {
            Ok(Some((client, client_thread))) => {
                pause = PAUSES.0;
                let error = serve(&shared, &member, client, client_thread).await;
                let id = member.id();
                member.down(error);
                // Perhaps the server has left.
                shared.lost(id.as_deref());
            }
            Ok(None) => {
                let _needed = timeout(NEEDLESS, member.missed.notified()).await;
                continue;
            }
            Err(error) => member.down(error),
        }
        select! {
            () = sleep(pause) => {
                let never_found = member.id().is_none() && began.elapsed() > NEVER_FOUND.0;
                pause = (pause * 2).min(if never_found { NEVER_FOUND.1 } else { PAUSES.1 });
            }
            // A call wants it.
            () = member.missed.notified() => sleep(PAUSES.0).await,
        }
    }
}

/// Opens a connection, if the server there is another one of this cluster and has no helper.
async fn connect(shared: &Arc<Shared>, member: &Member) -> Result<Option<(Client, ClientThread)>> {
    let peer = shared.way.address.peer.at(&member.server);
    let late = |_| peer.unreachable("no answer");
    let greeting = opening::greeting(&shared.way.address, &member.server);
    let info = timeout(OPENING, greeting).await.map_err(late)??;
    shared.learn(&info, false);
    if shared.is_needless(&info) {
        member.found(&info.server_id, true);
        return Ok(None);
    }
    if !shared.way.address.may_sign_in(&member.server) {
        let why = "was announced before TLS began, which anybody on the way may do, so nobody signs in there: name its host \
                   in the url too, or the authority of its certificate by the key `ca`";
        return Err(peer.error(ErrorKind::Misconfigured, why));
    }
    let opening = opening::open(&shared.way.address, &member.server, OPENING, &peer, Inbox::discard());
    let (client, client_thread) = timeout(OPENING, opening).await.map_err(late)??;
    // Behind one address there may be several servers.
    let info = client.server_info();
    let needless = shared.is_needless(&info);
    member.found(&info.server_id, needless);
    Ok((!needless).then_some((client, client_thread)))
}

/// Answers until the connection ends, and returns why.
async fn serve(shared: &Shared, member: &Member, client: Client, client_thread: ClientThread) -> Error {
    let client_thread = Arc::new(client_thread);
    let connection = Arc::clone(&client_thread.connection);
    let (subject, asker) = (format!("{}.0", connection.own), format!("{}.", shared.connection.own));
    let listens_at = subject.clone();
    let answering = client_thread.run(async move {
        let mut asked = client.subscribe(listens_at).await.ok()?;
        while let Some(message) = asked.next().await {
            // Nobody else has this connection publish.
            if let Some(reply) = message.reply.filter(|reply| reply.starts_with(&asker)) {
                client.publish(reply, Bytes::new()).await.ok()?;
            }
        }
        Some(())
    });
    let helper = Helper { subject: subject.clone(), client_thread: Arc::clone(&client_thread) };
    let mut over = connection.over.subscribe();
    let asking = async {
        member.up(helper);
        loop {
            settle(shared, member, &subject).await;
            member.missed.notified().await;
        }
    };
    select! {
        _ = answering => {}
        _ = over.wait_for(Option::is_some) => {}
        () = asking => {}
    }
    connection.over()
}

/// Asks until it answers, where a call has gone on without that, and tells that something may be missing.
async fn settle(shared: &Shared, member: &Member, subject: &str) {
    let mut pause = PAUSES.0;
    let answers = async || matches!(timeout(PATIENCE, shared.ask(subject.to_owned())).await, Ok(Ok(true)));
    while member.owes_gap() {
        if answers().await {
            // A call that goes on without it was made before the next question; a later one waits for an answer.
            member.wait_again();
            if answers().await {
                member.settled();
                shared.connection.gap();
                return;
            }
            member.go_on();
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}
