//! Actions: what a person does on a page, and what the page shows then.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    chromium::{Chromium, Tab},
    server::LIMIT,
};

/// Paints with the mouse, and a colour from the palette.
pub(crate) async fn paint(browser: &mut Chromium, tab: &Tab, x: u32, y: u32, colour: &str) {
    browser.evaluate(tab, &format!("document.querySelector('[aria-label={colour}]').click()")).await;
    let (left, top) = place(browser, tab, x, y).await;
    browser.click(tab, left, top).await;
}

/// Where a pixel of the board is on the page.
pub(crate) async fn place(browser: &mut Chromium, tab: &Tab, x: u32, y: u32) -> (f64, f64) {
    let place = format!(
        "(() => {{ const box = document.getElementById('board').getBoundingClientRect();
            return [box.left + (({x} + 0.5) / 64) * box.width, box.top + (({y} + 0.5) / 64) * box.height]; }})()"
    );
    let place = browser.evaluate(tab, &place).await;
    (place[0].as_f64().unwrap(), place[1].as_f64().unwrap())
}

pub(crate) async fn sign_in(browser: &mut Chromium, tab: &Tab, name: &str) {
    let sign_in = format!(
        "document.getElementById('name').value = '{name}'; document.getElementById('sign-in').requestSubmit()"
    );
    browser.evaluate(tab, &sign_in).await;
    browser.until(tab, "!document.getElementById('signed-in').hidden").await;
}

pub(crate) async fn say(browser: &mut Chromium, tab: &Tab, text: &str) {
    let say = format!(
        "document.getElementById('text').value = '{text}'; document.getElementById('say').requestSubmit()"
    );
    browser.evaluate(tab, &say).await;
}

/// Says it again and again: a page shows who is signed in before it hears the chat, which keeps nothing for later.
pub(crate) async fn say_until_heard(
    browser: &mut Chromium,
    from: &Tab,
    text: &str,
    tabs: &[&Tab],
    line: &str,
) {
    let saying = async {
        loop {
            say(browser, from, text).await;
            sleep(Duration::from_millis(200)).await;
            let mut heard = 0;
            for tab in tabs {
                heard += usize::from(browser.evaluate(tab, &has_heard(line)).await == json!(true));
            }
            if heard == tabs.len() {
                return;
            }
        }
    };
    assert!(timeout(LIMIT, saying).await.is_ok(), "never heard by all: {line}");
}

pub(crate) async fn hears(browser: &mut Chromium, tab: &Tab, line: &str) {
    browser.until(tab, &has_heard(line)).await;
}

pub(crate) fn has_heard(line: &str) -> String {
    format!("[...document.getElementById('said').children].some((item) => item.textContent === '{line}')")
}

pub(crate) async fn status_has(browser: &mut Chromium, tab: &Tab, text: &str) {
    browser.until(tab, &format!("document.getElementById('status').textContent.includes('{text}')")).await;
}

/// What the canvas itself has at a pixel, not what anybody says about it.
pub(crate) fn shows(x: u32, y: u32, rgb: [u8; 3]) -> String {
    let [r, g, b] = rgb;
    format!(
        "document.getElementById('board').getContext('2d').getImageData({x}, {y}, 1, 1).data.join() === '{r},{g},{b},255'"
    )
}

/// A drawing, a pixel for each `#`.
pub(crate) async fn draw(
    browser: &mut Chromium,
    tab: &Tab,
    drawing: &str,
    left: u32,
    top: u32,
    colour: &str,
) {
    for (y, row) in (top..).zip(drawing.split(' ')) {
        for (x, _) in (left..).zip(row.chars()).filter(|(_, dot)| *dot == '#') {
            paint(browser, tab, x, y, colour).await;
        }
    }
}
