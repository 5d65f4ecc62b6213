//! Positions: a call that begins where an earlier one has ended.

use crate::{Server, cuts::methods, within};

#[tokio::test]
async fn a_call_begins_behind_the_position_of_an_earlier_one() {
    let server = Server::start(methods).await;
    let client = server.client().build().unwrap();
    let mut first = within(client.call("test", "byCursor").open::<i64>()).await.unwrap();
    assert_eq!(first.cursor(), None);
    for number in 0..7 {
        assert_eq!(within(first.next()).await.unwrap().unwrap(), number);
    }
    let cursor = first.cursor().unwrap();
    assert_eq!(cursor, "7");
    drop(first);
    let call = client.call("test", "byCursor").cursor(&cursor);
    let mut second = within(call.open::<i64>()).await.unwrap();
    assert_eq!(second.cursor().as_deref(), Some("7"));
    assert_eq!(within(second.next()).await.unwrap().unwrap(), 7);
    assert_eq!(second.cursor().as_deref(), Some("8"));
}
