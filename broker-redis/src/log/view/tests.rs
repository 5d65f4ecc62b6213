//! Tests of the arithmetic, over answers as the server gives them.

use super::*;

const COUNT: usize = 3;

fn bulk(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn map(fields: &[(&str, Value)]) -> Value {
    Value::Map(fields.iter().map(|(name, value)| (bulk(name), value.clone())).collect())
}

/// The answers about a stream whose entries have the ids `1-0`, `2-0`, … and records of the same name.
fn answers(epochs: &[&str], added: i64, length: i64, last: u64, entries: &[u64]) -> [Value; 3] {
    let groups = epochs.iter().map(|name| map(&[("name", bulk(name)), ("pending", Value::Int(0))]));
    let entries = entries.iter().map(|id| {
        let fields = vec![bulk("r"), bulk(&id.to_string())];
        Value::Array(vec![bulk(&format!("{id}-0")), Value::Array(fields)])
    });
    let stream = [
        ("length", Value::Int(length)),
        ("last-generated-id", bulk(&format!("{last}-0"))),
        ("entries-added", Value::Int(added)),
        ("first-entry", Value::Nil),
    ];
    [Value::Array(groups.collect()), map(&stream), Value::Array(entries.collect())]
}

fn seen([groups, stream, range]: [Value; 3]) -> Option<View> {
    View::new(Head::new(&groups, &stream)?, range, COUNT)
}

fn view(added: i64, length: i64, last: u64, entries: &[u64]) -> View {
    seen(answers(&["epoch-a"], added, length, last, entries)).unwrap()
}

fn place(id: u64, added: u64) -> Place {
    Place::parse(&format!("epoch-a/{id}-0/{added}")).unwrap()
}

fn cursor(page: &LogPage) -> &str {
    page.cursor.place().unwrap()
}

#[test]
fn a_read_from_the_start_counts_deleted_entries() {
    let page = view(10, 2, 10, &[9, 10]).page(None, None);
    assert_eq!(page.records, ["9", "10"]);
    assert_eq!((cursor(&page), page.more), ("epoch-a/10-0/10", false));
    let page = view(10, 5, 10, &[6, 7, 8]).page(None, None);
    assert_eq!((cursor(&page), page.more), ("epoch-a/8-0/8", true));
    // As many as were asked for, and no more.
    let page = view(10, 3, 10, &[8, 9, 10]).page(None, None);
    assert_eq!((cursor(&page), page.more), ("epoch-a/10-0/10", false));
}

#[test]
fn a_cursor_is_valid_if_every_added_entry_was_returned() {
    for (seen, after, more) in [
        (view(10, 10, 10, &[]), place(10, 10), false),
        (view(10, 10, 10, &[9, 10]), place(8, 8), false),
        (view(10, 10, 10, &[8, 9, 10]), place(7, 7), false),
        (view(10, 10, 10, &[5, 6, 7]), place(4, 4), true),
        // All are gone, and all had been read.
        (view(10, 0, 10, &[]), place(10, 10), false),
        // Entries before it are gone.
        (view(10, 2, 10, &[9, 10]), place(8, 8), false),
        // Nothing was ever added.
        (view(0, 0, 0, &[]), place(0, 0), false),
    ] {
        assert_eq!(seen.lost(&after), None, "{seen:?} {after:?}");
        let (found, added) = (seen.entries.len() as u64, after.added);
        let page = seen.page(Some(after), None);
        assert_eq!(page.more, more, "{page:?}");
        assert!(cursor(&page).ends_with(&format!("/{}", added + found)), "{page:?}");
    }
}

#[test]
fn at_the_end_the_cursor_may_follow_a_deleted_entry() {
    let page = view(10, 1, 10, &[9]).page(None, None);
    assert_eq!(cursor(&page), "epoch-a/10-0/10");
    let page = view(10, 0, 10, &[]).page(None, None);
    assert_eq!(cursor(&page), "epoch-a/10-0/10");
}

#[test]
fn a_lost_cursor_has_a_reason() {
    let trimmed = Some(LogDiscontinuity::Trimmed);
    let rolled_back = Some(LogDiscontinuity::RolledBack);
    for (seen, after, why) in [
        // One of two is missing; both are; so many that a full page hides it.
        (view(10, 5, 10, &[10]), place(8, 8), trimmed),
        (view(10, 0, 10, &[]), place(8, 8), trimmed),
        (view(10, 5, 10, &[6, 7, 8]), place(2, 2), trimmed),
        // Back to where less had been added; the same, and grown since, to less, as much, more.
        (view(7, 7, 7, &[]), place(9, 9), rolled_back),
        (view(8, 8, 20, &[20]), place(9, 9), rolled_back),
        (view(9, 9, 21, &[20, 21]), place(9, 9), rolled_back),
        (view(11, 11, 23, &[20, 21, 22]), place(9, 9), rolled_back),
        (view(9, 9, 8, &[]), place(9, 9), rolled_back),
    ] {
        assert_eq!(seen.lost(&after), why, "{seen:?} {after:?}");
    }
}

#[test]
fn a_cursor_belongs_to_one_stream() {
    let one = view(9, 9, 9, &[]);
    let other = Place { epoch: "epoch-b".to_owned(), ..place(9, 9) };
    assert_eq!(one.lost(&other), Some(LogDiscontinuity::Replaced));
    // Several nodes made it at the same time; and somebody reads with a group of his own.
    let two = answers(&["audit", "epoch-a", "epoch-b"], 9, 9, 9, &[]);
    let two = seen(two).unwrap();
    assert_eq!((two.lost(&other), two.lost(&place(9, 9))), (None, None));
    assert!(cursor(&two.page(Some(other), None)).starts_with("epoch-b/"), "it stays as it was");
}

#[test]
fn a_stream_of_another_program_has_no_identity_and_its_entries_no_record() {
    let foreign = seen(answers(&["audit"], 1, 1, 1, &[1])).unwrap();
    assert!(!foreign.head.has_epoch());
    let mut all = answers(&["epoch-a"], 2, 2, 2, &[2]);
    let Value::Array(range) = &mut all[2] else { panic!("entries") };
    let fields = Value::Array(vec![Value::BulkString(vec![0xff]), bulk("x"), bulk("s"), bulk("y")]);
    range.insert(0, Value::Array(vec![bulk("1-0"), fields]));
    let Value::Array(groups) = &mut all[0] else { panic!("groups") };
    groups.insert(0, map(&[("name", Value::BulkString(vec![0xff]))]));
    let page = seen(all).unwrap().page(None, None);
    assert_eq!(cursor(&page), "epoch-a/2-0/2");
    assert_eq!(page.records, ["2"]);
}

#[test]
fn answers_of_another_shape_are_rejected() {
    let whole = answers(&["epoch-a"], 2, 2, 2, &[1, 2]);
    assert!(seen(whole.clone()).is_some());
    for n in 0..whole.len() {
        for wrong in [Value::Nil, Value::Okay, Value::Int(3), Value::Array(vec![Value::Nil])] {
            // A group without a name is nobody's identity.
            if n > 0 || !matches!(wrong, Value::Array(_)) {
                let mut answers = whole.clone();
                answers[n] = wrong;
                assert!(seen(answers.clone()).is_none(), "{answers:?}");
            }
        }
    }
    for (added, length, entries) in [(1, 2, &[][..]), (2, 1, &[1, 2]), (-1, 0, &[]), (0, -1, &[])] {
        let impossible = answers(&["epoch-a"], added, length, 2, entries);
        assert!(seen(impossible).is_none(), "{added} {length}");
    }
}
