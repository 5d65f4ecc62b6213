//! `broker call` against a real server: what it prints, what it exits with, and what it leaves behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
};

use support::{Done, SENT, Server, call, call_with, command, line, lines, within};

#[tokio::test]
async fn values_are_printed_as_json_and_the_end_with_why() {
    let server = Server::start().await;
    let url = server.url();
    call(&url, &["test.ints", "{\"count\": 3}"]).await.is(0, "0\n1\n2\nend finished\n");
    call(&url, &["test.ints", "{\"count\": 3}", "--plain", "--count", "2"])
        .await
        .is(0, "0\n1\nend cancelled\n");
    let printed =
        "{\"event\":\"value\",\"class\":\"int\",\"value\":0}\n{\"event\":\"end\",\"how\":\"finished\"}\n";
    call(&url, &["test.ints", "{\"count\": 1}", "--json"]).await.is(0, printed);
    // Nothing of the server moves the cursor.
    let printed = "\"a\\u009b2J\\u007f\\nb\"\nend fault class=NoSuchPixel data={\"index\":7}\n";
    let done = call(&url, &["test.faulty"]).await;
    done.is(3, printed);
    done.notes(3, &["NoSuchPixel"]);
    server.left().await;
}

#[tokio::test]
async fn a_call_begins_behind_a_position() {
    let server = Server::start().await;
    let words = ["test.endless", "--cursor", "41", "--count", "1"];
    call(&server.url(), &words).await.is(0, "41\nend cancelled\n");
}

#[tokio::test]
async fn inputs_come_from_values_files_and_lines() {
    let server = Server::start().await;
    let url = server.url();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("numbers");
    std::fs::write(&file, "1\n\n2\n").unwrap();
    let file = format!("a={}", file.display());
    call(&url, &["test.sum", "--input", &file, "--input", "b=40"]).await.is(0, "43\nend finished\n");
    call_with(&url, &["test.sum", "--input", "a=-", "--input", "b=0"], "3\n4")
        .await
        .is(0, "7\nend finished\n");
    let said = "{\"text\":\"a\"}\n{\"text\":\"b\"}\nend finished\n";
    let words = ["test.room", "--input", "outgoing=-", "--class", "outgoing=Say"];
    call_with(&url, &words, "{\"text\":\"a\"}\n{\"className\":\"Say\",\"data\":{\"text\":\"b\"}}\n")
        .await
        .is(0, said);

    // A value goes out when its line is there, and the end of the call does not wait for that of the input.
    let mut child = command(&url, &[&words[..], &["--count", "2"]].concat()).spawn().unwrap();
    let (mut stdin, mut printed) = (child.stdin.take().unwrap(), lines(&mut child));
    for text in ["{\"text\":\"a\"}", "{\"text\":\"b\"}"] {
        stdin.write_all(format!("{text}\n").as_bytes()).await.unwrap();
        assert_eq!(line(&mut printed).await.as_deref(), Some(text));
    }
    assert!(within(child.wait()).await.unwrap().success());
    server.left().await;
}

#[tokio::test]
async fn what_was_typed_wrongly_is_named_with_the_remedy() {
    let server = Server::start().await;
    let url = server.url();
    for (words, parts) in [
        (&["ints"][..], &["\"ints\"", "chat.room"][..]),
        (&["test.ints", "{s3cret"], &["arguments", "not JSON", "line 1", "'{\"room\":\"a\"}'"]),
        (&["test.ints", "\"s3cret\""], &["arguments", "not a JSON object"]),
        (&["test.sum", "--input", "s3cret"], &["--input is NAME=VALUE"]),
        (&["test.sum", "--input", "a=s3cret"], &["--input a", "neither JSON nor", "No such file", "or -"]),
        (&["test.sum", "--input", "a=[1]"], &["--input a", "--class"]),
        (&["test.sum", "--input", "a=-", "--input", "b=-"], &["--input b", "standard input", "file"]),
        (&["test.sum", "--input", "a=1", "--input", "a=2"], &["\"a\"", "twice"]),
        (&["test.sum", "--input", "a=1", "--class", "b=Say"], &["--class b", "no --input"]),
        (&["test.sum", "--header", "s3cret"], &["--header is NAME=VALUE"]),
        (&["test.sum", "--header", "host=s3cret"], &["\"host\"", "leave it out"]),
        (&["test.sum", "--cookie", "s3cret"], &["--cookie is NAME=VALUE", "sid=7"]),
    ] {
        call(&url, words).await.notes(2, parts);
    }
    for wrong in ["http://localhost/s3cret", "s3cret", "ws://ada:s3cret@localhost/", "ws://"] {
        call(wrong, &["test.ints"]).await.notes(2, &["ws://localhost:8080/v1/websocket"]);
    }
    // In the midst of a call, which is cancelled then.
    let words = ["test.room", "--input", "outgoing=-", "--class", "outgoing=Say"];
    let done = call_with(&url, &words, "{\"text\":\"a\"}\n\n{s3cret\n").await;
    done.notes(2, &["--input outgoing", "line 3", "not JSON"]);
    assert_eq!(done.printed.lines().last(), Some("end cancelled"));
    let long = |length: usize| format!("\"{}\"\n", "x".repeat(length));
    let done = call_with(&url, &words, &long(5 << 20)).await;
    done.notes(2, &["line 1", "longer than 4194304 bytes"]);
    let done = call_with(&url, &words, &long((4 << 20) - 8)).await;
    done.notes(2, &["\"outgoing\"", "send less at once"]);
    assert_eq!(done.printed, "end cancelled\n");
    server.left().await;
}

#[tokio::test]
async fn a_call_that_is_refused_or_fails_exits_by_its_kind() {
    let server = Server::start().await;
    let url = server.url();
    let refused = call(&url, &["test.nothing"]).await;
    refused.is(4, "end refused why=endpointNotFound\n");
    refused.notes(4, &["endpointNotFound", "\"test.nothing\""]);
    call(&url, &["test.fails", "--plain"]).await.notes(4, &["without --plain"]);
    let refused = call(&url, &["test.ints", "{}"]).await;
    refused.is(4, "end refused why=invalidArguments\n");
    refused.notes(4, &["arguments of test.ints"]);
    let refused = call(&url, &["module.closed.who", "--token", "another"]).await;
    refused.is(4, "end refused why=authenticationFailed\n");
    refused.notes(4, &["--token"]);
    let refused = call(&url, &["admin.who", "--token", "s3cret"]).await;
    refused.is(4, "end refused why=authorizationDeclined\n");
    refused.notes(4, &["scope"]);
    let failed = call(&url, &["test.fails"]).await;
    failed.is(5, "end closed why=internal again=never\n");
    failed.notes(5, &["internal"]);
    call(&url, &["test.endless", "--deadline", "1"]).await.is(5, "0\nend closed why=deadline again=never\n");
    server.left().await;
}

#[tokio::test]
async fn who_calls_is_shown_by_token_variable_or_cookie() {
    let server = Server::start().await;
    let url = server.url();
    let known = "\"ada\"\nend finished\n";
    call(&url, &["module.closed.who", "--token", "s3cret"]).await.is(0, known);
    call(&url, &["module.closed.who", "--cookie", "sid=s3cret"]).await.is(0, known);
    let header = ["module.closed.who", "--cookie", "a=b", "--header", "cookie=sid=s3cret"];
    call(&url, &header).await.is(0, known);
    let child = command(&url, &["module.closed.who"]).env("BROKER_TOKEN", "s3cret").spawn().unwrap();
    Done::of(child).await.is(0, known);
}

#[tokio::test]
async fn without_a_server_and_with_one_that_is_none_it_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("ws://{address}/?key=s3cret");
    let redirecting = tokio::spawn(async move {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let mut read = [0; 4096];
        let _ = stream.read(&mut read).await.unwrap();
        let answer = b"HTTP/1.1 302 Found\r\nlocation: ws://s3cret/\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    });
    let lost = call(&url, &["test.ints"]).await;
    lost.is(6, "end lost\n");
    lost.notes(6, &["302 Found", "path of the URL"]);
    within(redirecting).await.unwrap();
    let lost = call(&url, &["test.ints"]).await;
    lost.notes(6, &["refused", "host, the port"]);
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_cancels_the_call() {
    let server = Server::start().await;
    for more in [&["--resume"][..], &["--plain"], &["--input", "outgoing=-"]] {
        let method = if more.len() > 1 { "test.room" } else { "test.endless" };
        let mut child = command(&server.url(), &[&[method], more].concat()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut noted = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(within(noted.next_line()).await.unwrap().unwrap(), format!("opened {method}"));
        let pid = child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
        let done = Done::of(child).await;
        assert_eq!(done.status, Some(0), "{done:?}");
        assert_eq!(done.printed.lines().last(), Some("end cancelled"));
        drop(stdin);
        server.left().await;
        assert_eq!(server.streams.parked(), 0, "the server knows that nobody comes back");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_a_command_whose_output_nobody_reads() {
    let server = Server::start().await;
    let mut child = command(&server.url(), &["test.ints", "{\"count\":1000000}"]).spawn().unwrap();
    // Until the pipe is full, and so the window of the call.
    let mut before = u64::MAX;
    within(async {
        while SENT.load(SeqCst) != before {
            before = SENT.load(SeqCst);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
    server.left().await;
}

#[tokio::test]
async fn a_closed_output_ends_the_call() {
    let server = Server::start().await;
    let mut child = command(&server.url(), &["test.ints", "{\"count\":1000000}"]).spawn().unwrap();
    let mut printed = lines(&mut child);
    assert_eq!(line(&mut printed).await.as_deref(), Some("0"));
    drop(printed);
    let done = Done::of(child).await;
    assert_eq!(done.status, Some(0), "{done:?}");
    server.left().await;
}

#[tokio::test]
async fn a_server_that_goes_is_waited_for_with_resume_and_the_end_without() {
    let server = Server::start().await;
    let (url, address) = (server.url(), server.address.clone());
    let mut waiting = command(&url, &["test.endless", "--resume"]).spawn().unwrap();
    let mut printed = lines(&mut waiting);
    let mut lost = command(&url, &["test.endless"]).spawn().unwrap();
    let mut other = lines(&mut lost);
    for lines in [&mut printed, &mut other] {
        assert_eq!(line(lines).await.as_deref(), Some("0"));
    }
    within(server.streams.close()).await;
    server.stop().await;
    let end = line(&mut other).await.unwrap();
    assert!(end == "end lost" || end.starts_with("end closed"), "{end}");
    let status = within(lost.wait()).await.unwrap().code();
    assert!(status == Some(6) || status == Some(5), "{status:?}");
    let _server = Server::at(&address).await;
    assert_eq!(line(&mut printed).await.as_deref(), Some("resumed by cursor"));
    assert_eq!(line(&mut printed).await.as_deref(), Some("5"));
    waiting.kill().await.unwrap();
}
