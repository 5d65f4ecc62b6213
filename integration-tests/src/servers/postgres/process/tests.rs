//! Tests of the private PostgreSQL; ignored, with a word on standard error, where the programs are missing.

use std::time::Duration;

use broker_conformance::required;

use super::*;

/// A server, or `None` where there is no program and nobody insists on one.
async fn start(config: PostgresConfig) -> Option<PostgresServer> {
    if let Err(reason) = available() {
        assert!(!required("postgres"), "{reason}");
        eprintln!("ignored: {reason}");
        return None;
    }
    Some(PostgresServer::start(config).await.unwrap())
}

async fn is_there(server: &PostgresServer) -> bool {
    server.control().ask(APP, "SELECT to_regclass('kept') IS NOT NULL").await.unwrap() == "t"
}

/// Whoever is connected is a process of its own.
async fn hold_a_connection(server: &PostgresServer) -> tokio_postgres::Client {
    let url = server.url_at(server.addr());
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_pauses_and_starts_again_empty() {
    let Some(server) = start(PostgresConfig::default()).await else { return };
    let client = hold_a_connection(&server).await;
    client.simple_query("CREATE TABLE kept (n int)").await.unwrap();
    assert_eq!(server.control().connections(APP).await, Ok(1));

    server.pause().await.unwrap();
    let asked = client.simple_query("SELECT 1");
    let silence = tokio::time::timeout(Duration::from_millis(200), asked).await;
    assert!(silence.is_err(), "a paused server answered: {silence:?}");
    server.resume().await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
    assert!(is_there(&server).await);

    server.control().end_connections(APP, Some("somebody else's")).await.unwrap();
    assert_eq!(server.control().connections(APP).await, Ok(1));
    server.control().end_connections(APP, None).await.unwrap();
    assert_eq!(server.control().connections(APP).await, Ok(0));

    let (_client, before) = (hold_a_connection(&server).await, server.addr());
    server.pause().await.unwrap();
    server.kill().await.unwrap();
    server.kill().await.unwrap();
    server.control().ask(APP, "SELECT 1").await.unwrap_err();
    server.start_again().await.unwrap();
    server.start_again().await.unwrap_err();
    assert_ne!(server.addr(), before);
    assert!(!is_there(&server).await);
    server.stop().await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_data_and_gets_saved_ones_back() {
    let Some(server) = start(PostgresConfig::default().durable()).await else { return };
    server.restore_data().await.unwrap_err();
    server.save_data().await.unwrap();
    server.control().run(APP, "CREATE TABLE kept (n int)").await.unwrap();
    let _client = hold_a_connection(&server).await;
    server.kill().await.unwrap();
    server.start_again().await.unwrap();
    assert!(is_there(&server).await);
    server.restore_data().await.unwrap();
    assert!(!is_there(&server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_follows_and_is_promoted() {
    let Some(primary) = start(PostgresConfig::default()).await else { return };
    let standby = PostgresServer::standby_of(&primary, PostgresConfig::default().durable()).await.unwrap();
    primary.control().run(APP, "CREATE TABLE kept (n int)").await.unwrap();
    eventually("the standby to follow", LIMIT, || async {
        if is_there(&standby).await { Ok(()) } else { Err("not there".to_owned()) }
    })
    .await
    .unwrap();
    assert_eq!(standby.control().ask(APP, "SELECT pg_is_in_recovery()").await.as_deref(), Ok("t"));
    primary.kill().await.unwrap();
    assert_eq!(standby.control().ask(APP, "SELECT pg_promote()").await.as_deref(), Ok("t"));
    standby.control().run(APP, "DROP TABLE kept").await.unwrap();
}

/// Also those that hold a connection, and that are paused.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_dropped_server() {
    let Some(server) = start(PostgresConfig::default()).await else { return };
    let _client = hold_a_connection(&server).await;
    server.pause().await.unwrap();
    let dir = server.dir.path().to_owned();
    let ours = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let of_ours = |process: &fs::DirEntry| {
            let place = fs::read_link(process.path().join("cwd")).unwrap_or_default();
            place.starts_with(&dir)
        };
        processes.filter(of_ours).count()
    };
    assert!(ours() > 1, "{}", ours());
    drop(server);
    eventually("the processes to end", LIMIT, || async {
        if ours() == 0 { Ok(()) } else { Err(ours().to_string()) }
    })
    .await
    .unwrap();
    assert!(!dir.exists());
}
