//! Views: what each Sentinel of a URL says of the master, and what a majority of all of them says.

use broker_core::{Error, ErrorKind, Result, driver::ServerAddr};

/// What one Sentinel says.
#[derive(Clone, Debug)]
pub(crate) enum View {
    /// Nothing yet.
    Asked,
    /// The master is this.
    Master(ServerAddr),
    /// Nothing that could be used, or nothing any more, and why.
    Nothing(Error),
}

/// What all Sentinels say, in the order of the URL. One that is out of reach counts: two of three are a majority, and one
/// of the two that are left is none, because the other side of a partition may have three.
#[derive(Clone, Debug)]
pub(crate) struct Views {
    /// The name of the master.
    name: String,
    views: Vec<(ServerAddr, View)>,
}

impl Views {
    pub(crate) fn new(name: &str, sentinels: impl Iterator<Item = ServerAddr>) -> Self {
        Self { name: name.to_owned(), views: sentinels.map(|sentinel| (sentinel, View::Asked)).collect() }
    }

    /// What the Sentinel of this number says now.
    pub(crate) fn set(&mut self, number: usize, view: View) {
        if let Some((_, said)) = self.views.get_mut(number) {
            *said = view;
        }
    }

    fn majority(&self) -> usize {
        self.views.len() / 2 + 1
    }

    fn count(&self, such: impl Fn(&View) -> bool) -> usize {
        self.views.iter().filter(|(_, view)| such(view)).count()
    }

    /// The master, as a majority of all Sentinels says.
    pub(crate) fn master(&self) -> Option<&ServerAddr> {
        self.votes().find(|(_, votes)| *votes >= self.majority()).map(|(master, _)| master)
    }

    /// Each address that is named, with how many name it; one of several votes comes several times.
    fn votes(&self) -> impl Iterator<Item = (&ServerAddr, usize)> {
        let votes = |master| self.count(|view| matches!(view, View::Master(other) if other == master));
        self.views.iter().filter_map(move |(_, view)| match view {
            View::Master(master) => Some((master, votes(master))),
            _ => None,
        })
    }

    /// Whether those that have not answered can still make a majority.
    pub(crate) fn is_open(&self) -> bool {
        let most = self.votes().map(|(_, votes)| votes).max().unwrap_or_default();
        let asked = self.count(|view| matches!(view, View::Asked));
        self.master().is_none() && most + asked >= self.majority()
    }

    /// Whether a majority can be reached, whatever it says.
    pub(crate) fn is_reached(&self) -> bool {
        self.count(|view| matches!(view, View::Master(_))) >= self.majority()
    }

    /// The master, or why a majority names none.
    ///
    /// # Errors
    /// What a Sentinel objects to, where so many object that the others are no majority;
    /// [`Unavailable`](ErrorKind::Unavailable) with what each says, where they do not agree, or too few can be reached.
    pub(crate) fn verdict(&self) -> Result<ServerAddr> {
        if let Some(master) = self.master() {
            return Ok(master.clone());
        }
        let mut objections = self.views.iter().filter_map(|(_, view)| match view {
            View::Nothing(error) if !error.is_transient() => Some(error),
            _ => None,
        });
        let first = objections.next();
        if let Some(error) = first.filter(|_| 1 + objections.count() > self.views.len() - self.majority()) {
            return Err(error.clone());
        }
        if let [(_, View::Nothing(error))] = &self.views[..] {
            return Err(error.clone());
        }
        let said: Vec<String> = self.views.iter().map(|(sentinel, view)| said(sentinel, view)).collect();
        let (name, all, majority) = (&self.name, self.views.len(), self.majority());
        let why = format!(
            "no master `{name}`: {majority} of its {all} Sentinels have to agree, and do not: {}",
            said.join("; ")
        );
        Err(Error::new(ErrorKind::Unavailable, why))
    }

    /// The master, if it is another one than this, and the error for a link to this one.
    pub(crate) fn moved_from(&self, from: &ServerAddr) -> Option<(ServerAddr, Error)> {
        let to = self.master().filter(|master| *master != from)?;
        let (name, all) = (&self.name, self.views.len());
        let votes = self.count(|view| matches!(view, View::Master(master) if master == to));
        let why = format!(
            "{from} is not the master `{name}` any more: {votes} of {all} Sentinels say that it is {to}"
        );
        Some((to.clone(), Error::new(ErrorKind::Unavailable, why)))
    }
}

fn said(sentinel: &ServerAddr, view: &View) -> String {
    match view {
        View::Asked => format!("{sentinel} has not answered"),
        View::Master(master) => format!("{sentinel} says {master}"),
        View::Nothing(error) => error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use broker_core::BrokerUrl;

    use super::*;

    fn servers(hosts: &str) -> Vec<ServerAddr> {
        BrokerUrl::parse(&format!("redis://{hosts}")).unwrap().servers(26379).unwrap()
    }

    /// Views by a letter each: a server, `?` nothing yet, `-` out of reach, `!` an objection.
    fn views(said: &str) -> Views {
        let all: Vec<String> = (0..said.len()).map(|number| format!("s{number}")).collect();
        let mut views = Views::new("main", servers(&all.join(",")).into_iter());
        for (number, letter) in said.chars().enumerate() {
            let nothing = |kind| View::Nothing(Error::new(kind, format!("s{number}: nothing")));
            views.set(
                number,
                match letter {
                    '?' => View::Asked,
                    '-' => nothing(ErrorKind::Unavailable),
                    '!' => nothing(ErrorKind::Forbidden),
                    server => View::Master(servers(&server.to_string()).swap_remove(0)),
                },
            );
        }
        views
    }

    #[test]
    fn a_majority_of_all_decides() {
        for (said, master) in [
            ("a", Some("a")),
            ("aab", Some("a")),
            ("baa", Some("a")),
            ("aa-", Some("a")),
            ("aa?", Some("a")),
            ("a--", None),
            ("a-", None),
            ("ab", None),
            ("abc", None),
            ("aabb", None),
            ("aaabb", Some("a")),
            ("?", None),
        ] {
            let views = views(said);
            assert_eq!(views.master().map(|server| &*server.host), master, "{said}");
            assert_eq!(views.verdict().ok().map(|server| server.host).as_deref(), master, "{said}");
        }
    }

    #[test]
    fn it_is_open_as_long_as_a_majority_can_come() {
        for (said, open) in [
            ("???", true),
            ("a??", true),
            ("ab?", true),
            ("-??", true),
            ("--?", false),
            ("aa?", false),
            ("abc", false),
            ("ab-?", false),
            ("!!?", false),
        ] {
            assert_eq!(views(said).is_open(), open, "{said}");
        }
    }

    #[test]
    fn a_majority_is_reached_also_where_it_does_not_agree() {
        for (said, reached) in [("ab-", true), ("aa-", true), ("a--", false), ("a!!", false), ("a", true)] {
            assert_eq!(views(said).is_reached(), reached, "{said}");
        }
    }

    #[test]
    fn an_objection_is_the_error_only_where_it_decides() {
        for (said, kind) in [
            ("!", ErrorKind::Forbidden),
            ("!!-", ErrorKind::Forbidden),
            ("!!a", ErrorKind::Forbidden),
            ("!--", ErrorKind::Unavailable),
            ("!a-", ErrorKind::Unavailable),
            ("!a", ErrorKind::Forbidden),
            ("-", ErrorKind::Unavailable),
            ("abc", ErrorKind::Unavailable),
        ] {
            assert_eq!(views(said).verdict().unwrap_err().kind(), kind, "{said}");
        }
        let error = views("ab-").verdict().unwrap_err();
        for part in ["`main`", "2 of its 3", "s0:26379 says a:26379", "s1:26379 says b:26379", "s2: nothing"]
        {
            assert!(error.message().contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_move_is_told_with_both_servers_and_the_votes() {
        let [a, b] = &servers("a,b")[..] else { panic!() };
        assert!(views("aab").moved_from(a).is_none() && views("b?a").moved_from(a).is_none());
        let (to, error) = views("bba").moved_from(a).unwrap();
        assert_eq!(to, *b);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for part in ["a:26379 is not the master `main`", "2 of 3", "it is b:26379"] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
    }
}
