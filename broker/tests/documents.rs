//! What the documents show is what the code does.

use std::{
    error::Error,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use broker::{CloseReason, Identity, Item, Model, Options, Revocation, Revoked, Scope, StreamError};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines between the first fence that opens with `open` and the next that closes.
fn block<'a>(text: &'a str, open: &str) -> Vec<&'a str> {
    text.lines().skip_while(|line| *line != open).skip(1).take_while(|line| *line != "```").collect()
}

#[test]
fn the_configuration_example_shows_every_option() {
    let text = read("examples/broker.toml");
    let table: toml::Table = text.parse().unwrap();
    let options = table["options"].as_table().unwrap();
    for key in broker::Options::URL_KEYS {
        assert!(options.contains_key(*key), "{key} is missing");
        assert!(read("../README.md").contains(&format!("`{key}`")), "{key} is not in the README");
    }
}

/// The crate's example is compiled and run as a documentation test; so is the README's, then.
#[test]
fn the_readme_shows_the_crates_own_example() {
    let essay = read("src/lib.rs");
    let essay: String = essay
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n")
        .collect();
    let hidden = |line: &&str| !line.starts_with("# ");
    let example: Vec<&str> = block(&essay, "```").into_iter().filter(hidden).collect();
    assert!(example.len() > 10, "{example:?}");
    assert_eq!(block(&read("../README.md"), "```rust"), example);
}

/// What of the README's code is not the crate's own example stands below, so that it compiles.
#[test]
fn the_readmes_other_code_is_code_of_this_file() {
    let readme = read("../README.md");
    let blocks: Vec<String> = readme
        .split("\n```rust\n")
        .skip(2)
        .filter_map(|rest| rest.split_once("\n```\n"))
        .map(|(code, _)| code.lines().map(|line| format!("    {line}\n")).collect())
        .collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        assert!(include_str!("documents.rs").contains(&block), "{block}");
    }
}

/// The bytes of the worked example, and those that the test of the frame expects.
#[test]
fn the_frame_is_specified_as_it_is_tested() {
    let page = read("../ARCHITECTURE.md");
    let (_, example) = page.split_once("46 bytes:\n").unwrap();
    let hex = block(example, "```text").into_iter().filter_map(|line| line.split("  ").next());
    let specified: Vec<u8> =
        hex.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();

    let source = read("../broker-core/src/wire/frame.rs");
    let (_, rest) = source.split_once("let expected = b\"").unwrap();
    let (literal, _) = rest.split_once("\";").unwrap();
    let literal: String = literal.split("\\\n").map(str::trim_start).collect();
    let mut rest = literal.as_str();
    let mut tested = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (byte, length) = match rest.strip_prefix("\\x") {
            Some(escaped) => (u8::from_str_radix(&escaped[..2], 16).unwrap(), 4),
            None => (u8::try_from(first).unwrap(), 1),
        };
        tested.push(byte);
        rest = &rest[length..];
    }
    assert_eq!(specified, tested);
    assert_eq!(specified.len(), 46);
}

#[test]
fn the_record_of_a_revocation_is_specified_as_it_is_tested() {
    let page = read("../ARCHITECTURE.md");
    let (_, section) = page.split_once("## A revocation on the wire").unwrap();
    let record = block(section, "```json").concat();
    assert!(
        read("../broker-core/src/revocation/record.rs").contains(&format!("r#\"{record}\"#")),
        "{record}"
    );
}

type Outcome = Result<(), Box<dyn Error>>;

#[derive(Default)]
struct Board(Mutex<Vec<(u32, u8)>>);

impl Board {
    fn draw(&self, index: u32, colour: u8) {
        self.0.lock().expect("no panic").push((index, colour));
    }

    #[expect(clippy::unused_async, reason = "reading a board is I/O")]
    async fn read_anew(&self) {
        self.0.lock().expect("no panic").clear();
    }
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct PixelAdded {
    index: u32,
    colour: u8,
}

#[tokio::test]
async fn a_listener_handles_gaps() -> Outcome {
    let broker = broker::connect("memory:").await?;
    let (session, board) = (broker.session(), Arc::new(Board::default()));
    let drawn = Arc::clone(&board);

    session
        .add_listener("pixel-added", move |item: Item<PixelAdded>| {
            let board = Arc::clone(&board);
            async move {
                match item {
                    Ok(pixel) => board.draw(pixel.index, pixel.colour),
                    Err(StreamError::Gap(_)) => board.read_anew().await,
                    Err(other) => eprintln!("{other}"), // another type, or not readable
                }
            }
        })
        .await?;

    session.post_message("pixel-added", PixelAdded { index: 17, colour: 3 }, Scope::Global).await?;
    broker.drain().await;
    assert_eq!(*drawn.0.lock().expect("no panic"), [(17, 3)]);
    Ok(())
}

struct Claims {
    user: String,
    key: String,
}

fn check(token: &str) -> Result<Claims, Box<dyn Error>> {
    let (user, key) = token.split_once('/').ok_or("no token")?;
    Ok(Claims { user: user.to_owned(), key: key.to_owned() })
}

struct Socket(tokio::sync::oneshot::Sender<CloseReason>);

impl Socket {
    #[expect(clippy::unused_async, reason = "writing to a socket is I/O")]
    async fn say_goodbye(self, why: CloseReason) {
        self.0.send(why).expect("somebody reads");
    }
}

#[tokio::test]
async fn a_user_is_signed_in_and_signed_out_everywhere() -> Outcome {
    let broker = broker::connect("memory:").await?;
    let (goodbye, said) = tokio::sync::oneshot::channel();
    let (token, socket) = ("ada/key-7", Socket(goodbye));

    let began = Instant::now(); // before the token is looked at
    let claims = check(token)?;
    let identity = Identity::new(claims.user, began).with_auth_id(claims.key).with_scopes(["board"]);
    let session = broker.session_for(identity).await?; // an error of kind `Revoked` if it was revoked meanwhile
    session.on_close(async move |why| socket.say_goodbye(why).await)?; // a revocation has closed the session by then

    // On any server: first in your own records, then here.
    session.revoke_authentication(Revocation::user("ada")).await?;

    assert!(matches!(said.await?, CloseReason::AuthenticationRevoked(Revoked::User)));
    assert!(matches!(session.closed().await, CloseReason::AuthenticationRevoked(Revoked::User)));
    Ok(())
}

#[expect(dead_code, reason = "needs a server of its own; it is enough that it compiles")]
async fn a_server_starts_while_its_backend_is_away() -> Outcome {
    let broker = broker::open("redis://127.0.0.1/", Options::default())?;
    tokio::time::timeout(Duration::from_secs(30), broker.ready()).await??;
    broker.close().await;
    Ok(())
}

#[tokio::test]
async fn a_configuration_file_is_connected_to() -> Outcome {
    let text = read("examples/broker.toml");
    let config: broker::Config = toml::from_str(&text)?;
    let broker = config.connect().await?;
    broker.close().await;
    Ok(())
}
