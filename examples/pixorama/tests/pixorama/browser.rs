//! Pages of a real browser on several servers: they see each other's pixels, also those that were painted while Redis
//! or their server was away, people talk, and signing out everywhere reaches exactly the chat of that user.

use std::{fs, path::PathBuf, process::Stdio, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use broker_conformance::required;
use integration_tests::servers::{
    Server,
    redis::{self, config::RedisConfig, process::RedisServer},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

use crate::{
    actions::{draw, hears, paint, place, say, say_until_heard, shows, sign_in, status_has},
    chromium::{Chromium, Tab, program},
    server::{LIMIT, Line, Pixorama},
};

/// A heart, and a greeting: what the picture in the README shows.
const HEART: &str = ".##...##. ####.#### ######### ######### .#######. ..#####.. ...###... ....#....";
const HI: &str = "#..#.### #..#..#. ####..#. #..#..#. #..#.###";

pub(crate) fn is_there(what: &str, available: Result<(), String>) -> bool {
    let Err(reason) = available else { return true };
    assert!(!required(what), "{what}: {reason}");
    eprintln!("left out, for want of {what}: {reason}");
    false
}

/// Test output, kept: the picture in the README is from here.
fn keep(name: &str, picture: &[u8]) {
    let place = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/screenshots");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join(name), picture).unwrap();
}

const RED: [u8; 3] = [220, 38, 38];
const BLUE: [u8; 3] = [37, 99, 235];
const GREEN: [u8; 3] = [21, 128, 61];

/// Paints with the keyboard on one page, and sees it on the other.
async fn paint_with_keys(browser: &mut Chromium, one: &Tab, two: &Tab) {
    // With the keyboard: the third colour from the end, one step to the left of the middle.
    browser.evaluate(two, "document.getElementById('board').focus()").await;
    for key in ["8", "ArrowLeft", " "] {
        browser.key(two, key).await;
    }
    browser.until(one, &shows(31, 32, GREEN)).await;
    // Where the keyboard is can be seen, and lies on that very pixel.
    let on_it = "(() => { const mark = document.getElementById('cursor').getBoundingClientRect();
        const box = document.getElementById('board').getBoundingClientRect();
        return Math.abs(mark.left - box.left - 31 / 64 * box.width) < 1
            && Math.abs(mark.top - box.top - 32 / 64 * box.height) < 1 && mark.width > 4; })()";
    browser.until(two, on_it).await;
    keep("keyboard.png", &browser.picture(two).await);
}

async fn side_by_side(browser: &mut Chromium, pictures: &[Vec<u8>; 2]) {
    // Both side by side, as they were before Redis went away.
    let tab = browser.open("about:blank", 1280, 970).await;
    let images: Vec<String> = pictures
        .iter()
        .map(|picture| format!("data:image/png;base64,{}", STANDARD.encode(picture)))
        .collect();
    let show = format!(
        "document.body.style.margin = '0'; document.body.style.background = '#57534e';
         Promise.all({}.map((source) => {{ const image = new Image(); image.src = source;
            image.style.width = 'calc(50% - 12px)'; image.style.margin = '8px 4px'; document.body.append(image);
            return image.decode(); }})).then(() => true)",
        json!(images)
    );
    browser.evaluate(&tab, &show).await;
    keep("side-by-side.png", &browser.picture(&tab).await);
}

/// Two people, each on a page of another server.
async fn two_people(browser: &mut Chromium, servers: &[Pixorama; 2]) -> [Tab; 2] {
    let mut tabs = Vec::new();
    for (server, name) in servers.iter().zip(["ada", "bob"]) {
        let tab = browser.open(&format!("http://{}", server.address), 640, 960).await;
        status_has(browser, &tab, "2 servers").await;
        sign_in(browser, &tab, name).await;
        tabs.push(tab);
    }
    tabs.try_into().unwrap_or_else(|_| unreachable!("two"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pages_on_two_servers_over_redis_are_one_board() {
    let found = program().ok_or_else(|| "no `chromium` on the PATH: run `cargo xtask test`".to_owned());
    if !is_there("chromium", found.clone().map(drop)) || !is_there("redis", redis::process::available()) {
        return;
    }
    // Without a log that outlives it, a server that was away would leave everybody's sign-in in doubt.
    let redis = RedisServer::start(RedisConfig::default().durable()).await.unwrap();
    let url = redis.url_at(redis.addr());
    let servers = [Pixorama::start(&url).await, Pixorama::start(&url).await];
    let mut browser = Chromium::start(&found.unwrap()).await;
    let [one, two] = &two_people(&mut browser, &servers).await;

    let painted = Instant::now();
    paint(&mut browser, one, 10, 12, "red").await;
    browser.until(two, &shows(10, 12, RED)).await;
    println!("painted on one, seen on the other after {:?}", painted.elapsed());
    paint(&mut browser, two, 50, 40, "blue").await;
    browser.until(one, &shows(50, 40, BLUE)).await;
    browser.until(two, &shows(50, 40, BLUE)).await;

    paint_with_keys(&mut browser, one, two).await;

    draw(&mut browser, one, HEART, 12, 24, "red").await;
    draw(&mut browser, two, HI, 36, 24, "violet").await;
    browser.until(one, &shows(43, 28, [124, 58, 237])).await;
    browser.until(two, &shows(16, 31, RED)).await;
    say(&mut browser, one, "a heart for you").await;
    hears(&mut browser, two, "ada a heart for you").await;
    say(&mut browser, two, "hi!").await;
    for tab in [one, two] {
        hears(&mut browser, tab, "bob hi!").await;
    }
    let pictures = [browser.picture(one).await, browser.picture(two).await];
    keep("one.png", &pictures[0]);
    keep("two.png", &pictures[1]);

    redis.kill().await.unwrap();
    status_has(&mut browser, one, "cut off").await;
    paint(&mut browser, one, 5, 60, "red").await;
    browser.until(one, &shows(5, 60, RED)).await;
    keep("outage.png", &browser.picture(one).await);
    redis.start_again().await.unwrap();
    browser.until(two, &shows(5, 60, RED)).await;
    browser.until(one, &shows(5, 60, RED)).await;
    status_has(&mut browser, one, "connected").await;

    side_by_side(&mut browser, &pictures).await;
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_everywhere_ends_the_chat_and_leaves_the_board() {
    let found = program().ok_or_else(|| "no `chromium` on the PATH: run `cargo xtask test`".to_owned());
    if !is_there("chromium", found.clone().map(drop)) {
        return;
    }
    let url = "memory://browser-out";
    let servers = [Pixorama::start(url).await, Pixorama::start(url).await];
    let mut browser = Chromium::start(&found.unwrap()).await;
    let [one, bob] = two_people(&mut browser, &servers).await;
    let two = browser.open(&format!("http://{}", servers[1].address), 640, 960).await;
    status_has(&mut browser, &two, "2 servers").await;
    sign_in(&mut browser, &two, "ada").await;
    say_until_heard(&mut browser, &one, "both of me", &[&one, &two, &bob], "ada both of me").await;

    browser.evaluate(&one, "document.getElementById('sign-out').click()").await;
    let told = "document.getElementById('word').textContent.includes('signed out everywhere')";
    for tab in [&one, &two] {
        browser.until(tab, told).await;
        browser.until(tab, "document.getElementById('signed-in').hidden").await;
    }
    keep("signed-out.png", &browser.picture(&two).await);
    // The board's stream of the same socket has not even been restarted.
    paint(&mut browser, &one, 10, 12, "red").await;
    browser.until(&two, &shows(10, 12, RED)).await;
    assert_eq!(
        browser.evaluate(&two, "document.getElementById('board').dataset.again ?? null").await,
        json!(null)
    );
    say(&mut browser, &bob, "bye").await;
    hears(&mut browser, &bob, "bob bye").await;

    // And back, with a reload that signs nobody out.
    sign_in(&mut browser, &two, "ada").await;
    browser.evaluate(&two, "window.before = true; location.reload()").await;
    browser.until(&two, "window.before === undefined").await;
    status_has(&mut browser, &two, "2 servers").await;
    say(&mut browser, &two, "back").await;
    hears(&mut browser, &bob, "ada back").await;
    for server in servers {
        server.stop().await;
    }
}

/// The program itself, so that it can be killed.
async fn program_on(port: u16, redis: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixorama"));
    command.args(["--port", &port.to_string(), "--broker", redis]);
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    // Something else may have taken the port; then it ends without this line.
    timeout(LIMIT, out.read_line(&mut line)).await.expect("a line").unwrap();
    assert!(line.starts_with("pixorama on"), "{line:?}");
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_on_after_its_server_was_killed() {
    let found = program().ok_or_else(|| "no `chromium` on the PATH: run `cargo xtask test`".to_owned());
    if !is_there("chromium", found.clone().map(drop)) || !is_there("redis", redis::process::available()) {
        return;
    }
    let redis = RedisServer::start(RedisConfig::default().durable()).await.unwrap();
    let url = redis.url_at(redis.addr());
    let other = Pixorama::start(&url).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut server = program_on(port, &url).await;
    let mut browser = Chromium::start(&found.unwrap()).await;
    let tab = browser.open(&format!("http://127.0.0.1:{port}"), 640, 960).await;
    status_has(&mut browser, &tab, "2 servers").await;
    sign_in(&mut browser, &tab, "ada").await;
    paint(&mut browser, &tab, 10, 12, "red").await;
    browser.until(&tab, &shows(10, 12, RED)).await;
    let mut page = other.page().await;
    page.sees(12 * 64 + 10, 4).await;

    server.kill().await.unwrap();
    browser.until(&tab, "document.getElementById('link').dataset.state !== 'connected'").await;
    browser.until(&tab, "document.getElementById('board').matches('.away')").await;
    keep("server-away.png", &browser.picture(&tab).await);
    page.paint(5 * 64 + 5, 11).await.unwrap();

    let server = program_on(port, &url).await;
    browser.until(&tab, "document.getElementById('link').dataset.state === 'connected'").await;
    browser.until(&tab, "document.getElementById('board').dataset.again === 'restarted'").await;
    // What was painted before, meanwhile and from now on; and the chat, without signing in again.
    browser.until(&tab, &shows(5, 5, BLUE)).await;
    browser.until(&tab, &shows(10, 12, RED)).await;
    paint(&mut browser, &tab, 20, 20, "green").await;
    page.sees(20 * 64 + 20, 8).await;
    let chat = page.chat(&other.sign_in("bob").await).await.unwrap();
    say(&mut browser, &tab, "here again").await;
    page.hears(chat, "ada", "here again").await;
    drop(server);
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_resumes_exactly_after_its_socket_was_cut() {
    let found = program().ok_or_else(|| "no `chromium` on the PATH: run `cargo xtask test`".to_owned());
    if !is_there("chromium", found.clone().map(drop)) {
        return;
    }
    let server = Pixorama::start("memory://browser-cut").await;
    let line = Line::to(server.address).await;
    let mut browser = Chromium::start(&found.unwrap()).await;
    let tab = browser.open(&format!("http://{}", line.address), 640, 960).await;
    status_has(&mut browser, &tab, "1 here").await;
    sign_in(&mut browser, &tab, "ada").await;
    say(&mut browser, &tab, "before").await;
    hears(&mut browser, &tab, "ada before").await;
    let mut page = server.page().await;
    let chat = page.chat(&server.sign_in("bob").await).await.unwrap();

    line.cut();
    page.paint(5 * 64 + 5, 11).await.unwrap();
    page.say(chat, "between");
    browser.until(&tab, "document.getElementById('board').dataset.again === 'exact'").await;
    browser.until(&tab, &shows(5, 5, BLUE)).await;
    hears(&mut browser, &tab, "bob between").await;
    say(&mut browser, &tab, "after").await;
    page.hears(chat, "ada", "after").await;
    // Nothing is missing, and nothing is there twice.
    hears(&mut browser, &tab, "ada after").await;
    let lines = "[...document.getElementById('said').children].map((item) => item.textContent)";
    let lines = browser.evaluate(&tab, lines).await;
    assert_eq!(lines, json!(["ada before", "bob between", "ada after"]));
    server.stop().await;
}

/// By how much the two colours of a text differ, as WCAG has it: 4.5 can be read by most.
const CONTRAST: &str = "(element) => {
    const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number)
            .map((part) => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ink = light(getComputedStyle(element).color);
    const ground = light(getComputedStyle(document.body).backgroundColor);
    return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
}";

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_in_dark_mode_paints_by_touch() {
    let found = program().ok_or_else(|| "no `chromium` on the PATH: run `cargo xtask test`".to_owned());
    if !is_there("chromium", found.clone().map(drop)) {
        return;
    }
    let server = Pixorama::start("memory:").await;
    let mut browser = Chromium::start(&found.unwrap()).await;
    let tab = browser.open(&format!("http://{}", server.address), 400, 800).await;
    status_has(&mut browser, &tab, "1 server").await;
    let readable = format!(
        "[...document.querySelectorAll('h1, label, button:not([role]), #who, #link, #said, #word, footer')].every((element) =>
            ({CONTRAST})(element) >= 4.5)"
    );
    browser.until(&tab, "getComputedStyle(document.body).backgroundColor === 'rgb(250, 250, 249)'").await;
    browser.until(&tab, &readable).await;

    browser.become_a_phone_in_the_dark(&tab, 390, 844).await;
    browser.until(&tab, "getComputedStyle(document.body).backgroundColor === 'rgb(28, 25, 23)'").await;
    browser.until(&tab, &readable).await;
    browser.until(&tab, "document.documentElement.scrollWidth <= innerWidth").await;
    sign_in(&mut browser, &tab, "ada").await;
    say(&mut browser, &tab, &"w".repeat(200)).await;
    hears(&mut browser, &tab, &format!("ada {}", "w".repeat(200))).await;
    browser.until(&tab, &readable).await;
    browser.until(&tab, "document.documentElement.scrollWidth <= innerWidth").await;
    browser.until(&tab, "(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(said)").await;
    browser.evaluate(&tab, "document.activeElement.blur(); scrollTo(0, 0)").await;
    browser.evaluate(&tab, "document.querySelector('[aria-label=blue]').click()").await;
    let mut places = Vec::new();
    for (x, y) in [(8, 8), (40, 8), (40, 30)] {
        places.push(place(&mut browser, &tab, x, y).await);
    }
    browser.stroke(&tab, &places).await;
    for (x, y) in [(8, 8), (25, 8), (40, 8), (40, 19), (40, 30)] {
        browser.until(&tab, &shows(x, y, BLUE)).await;
    }
    assert_eq!(browser.evaluate(&tab, "scrollY").await, json!(0), "the finger has moved the page");
    keep("phone-dark.png", &browser.picture(&tab).await);
    server.stop().await;
}
