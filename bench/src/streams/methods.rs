//! Methods: what clients of ours call, and who they are.

use broker::SubscribeOptions;
use broker_streams::{
    Authenticated, Authenticator, Call, Credentials, Endpoint, Failure, Incoming, Model, Out, method,
};
use serde::{Deserialize, Serialize};

/// The queue of a reader who is not to keep much.
const FEW: usize = 128;

/// What is sent: 178 bytes as a frame of ours.
#[derive(Clone, Debug, Serialize, Deserialize, Model)]
pub(crate) struct Said {
    pub(crate) text: String,
}

async fn echo(mut input: Incoming<Said>, out: Out<Said>) -> Result<(), Failure> {
    while let Some(said) = input.next().await {
        out.send(said?).await?;
    }
    Ok(())
}

async fn news(call: Call, out: Out<Said>) -> Result<(), Failure> {
    let news = call.session().create_stream::<Said>("news").await?;
    out.relay(news).await
}

/// The same with a queue of few messages.
async fn brief(call: Call, out: Out<Said>) -> Result<(), Failure> {
    let few = SubscribeOptions::new().capacity(FEW);
    out.relay(call.session().create_stream_with::<Said>("news", few).await?).await
}

/// A session with a subscription that nobody posts to.
async fn idle(call: Call, _out: Out<Said>) -> Result<(), Failure> {
    let mut quiet = call.session().create_stream::<Said>("quiet").await?;
    while quiet.next().await.is_some() {}
    Ok(())
}

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

/// Until its call is ended.
async fn held(_input: Incoming<Said>, _out: Out<Said>) {
    std::future::pending::<()>().await;
}

/// Takes a token for an authentication of one user, who has many.
pub(crate) struct Names;

/// The user of every token.
pub(crate) const USER: &str = "someone";

impl Authenticator for Names {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        Ok(Some(Authenticated::new(USER).with_auth_id(credentials.secret())))
    }
}

pub(crate) fn endpoints() -> [Endpoint; 2] {
    let open = Endpoint::new("bench")
        .method("echo", method(echo).inputs(["input"]))
        .method("news", news)
        .method("brief", brief)
        .method("kept", method(news).resumable())
        .method("idle", idle)
        .method("forever", method(forever).resumable());
    let private = Endpoint::new("private").requires_login();
    [open, private.method("held", method(held).inputs(["input"])).method("news", news)]
}
