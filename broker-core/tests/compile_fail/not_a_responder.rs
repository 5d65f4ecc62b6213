//! Functions that cannot answer requests.
use broker::prelude::*;

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct Ask {
    n: u32,
}

struct NoModel;

async fn takes_the_value(session: &Session) {
    let _ = session.reply_to("asks", |ask: Ask| ask).await;
}

async fn returns_no_reply(session: &Session) {
    let _ = session.reply_to("asks", |_: Received<Ask>| NoModel).await;
}

async fn returns_nothing(session: &Session) {
    let _ = session.reply_to("asks", async |_: Received<Ask>| {}).await;
}

fn main() {}
