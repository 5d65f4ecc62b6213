//! Tests of what happens between two steps of a confirmation.

use super::*;

/// A channel that was asked of the link, and is about to be confirmed.
fn asked(name: &ChannelName) -> (Subscriptions, Vec<ChannelName>) {
    let subscriptions = Subscriptions::new(Duration::ZERO, Runtime::default());
    subscriptions.begin();
    subscriptions.trying(std::slice::from_ref(name));
    let confirmed = subscriptions.still_subscribed(std::slice::from_ref(name));
    (subscriptions, confirmed)
}

#[test]
fn a_channel_that_lapses_while_it_is_confirmed_is_asked_again() {
    let name = ChannelName::internal("lapsed");
    for (next, again) in [(Next::Ask, vec![name.clone()]), (Next::Wait, Vec::new())] {
        let (subscriptions, confirmed) = asked(&name);
        assert_eq!(subscriptions.note_unsubscribed("lapsed", next), Some(name.clone()));
        let lapsed = subscriptions.confirm(&confirmed);
        assert_eq!(lapsed.get(&name), Some(&next));
        assert_eq!(subscriptions.subscribed(), []);
        assert_eq!(subscriptions.lock().asked, again);
        // Nothing of it is left for the next time.
        subscriptions.trying(&confirmed);
        assert_eq!(subscriptions.still_subscribed(&confirmed), confirmed);
        assert!(subscriptions.confirm(&confirmed).is_empty());
        assert_eq!(subscriptions.subscribed(), confirmed);
    }
}
