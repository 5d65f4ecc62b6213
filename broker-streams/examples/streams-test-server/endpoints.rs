//! Streaming endpoints of the older kind, at `/websocket`.

use broker_streams::{Any, Endpoint, Failure, Peer, StreamingEndpoint};

use crate::{Notes, secret};

/// Sends back what it receives. Some values make it do something else.
struct Echo(Notes);

impl StreamingEndpoint for Echo {
    type User = i64;

    async fn stream_opened(&self, peer: &Peer) -> Result<i64, Failure> {
        self.0.add(format!("{} opened", peer.endpoint()));
        Ok(0)
    }

    async fn handle_stream_message(
        &self,
        peer: &Peer,
        messages: &mut i64,
        message: Any,
    ) -> Result<(), Failure> {
        *messages += 1;
        if !message.is::<String>() {
            return Ok(peer.send_stream_message(&message.read::<i64>()?).await?);
        }
        match message.read::<String>()?.as_str() {
            "who" => {
                let session = peer.session();
                let who = session.identity().map(|identity| identity.user().to_owned());
                peer.send_stream_message(&who).await?;
            }
            "count" => peer.send_stream_message(messages).await?,
            "fail" => return Err(secret()),
            note => self.0.add(note),
        }
        Ok(())
    }

    async fn stream_closed(&self, peer: &Peer, _: i64) {
        self.0.add(format!("{} closed", peer.endpoint()));
    }
}

pub(crate) fn all(notes: &Notes) -> [Endpoint; 4] {
    [
        Endpoint::new("streaming").streaming(Echo(notes.clone())),
        Endpoint::new("login").requires_login().streaming(Echo(notes.clone())),
        Endpoint::new("scoped").requires_scopes(["admin"]).streaming(Echo(notes.clone())),
        Endpoint::new("module.streaming").streaming(Echo(notes.clone())),
    ]
}
