//! ServerReport: what the server says of itself, its clock and where it keeps revocations, and what to make of it.

use std::time::{Duration, SystemTime};

use broker::{Broker, Inspection, Reach, Warning};

use super::{Finding, checks::shown};

/// What the server reported about itself, between two moments of our clock.
pub(super) type ServerReport = (SystemTime, Inspection, SystemTime);

/// Two servers that are within half of `clock_skew` of this one are within all of it of each other.
pub(super) fn clock(allowed: Duration, report: Option<&ServerReport>) -> Finding {
    let Some((before, Inspection { clock: Some(at), .. }, after)) = report else {
        return Finding::unknown("clock", "not reported by the server");
    };
    let apart = |a: &SystemTime, b: &SystemTime| a.duration_since(*b).unwrap_or_default();
    let (ahead, behind) = (apart(before, at), apart(at, after));
    let least = ahead.max(behind);
    let most = least.max(apart(at, before)).max(apart(after, at));
    if least <= allowed / 2 {
        let what = format!("this machine's is within {} of the server's", shown(most));
        return Finding::ok("clock", what);
    }
    let way = if ahead > behind { "ahead of" } else { "behind" };
    Finding::warn(
        "clock",
        format!("this machine's is at least {} {way} the server's", shown(least)),
        format!(
            "synchronise the clocks of all servers: revocations allow for a difference of clock_skew, {}",
            shown(allowed)
        ),
    )
}

/// What the backend itself advises; the last one is shown first.
pub(super) fn warnings(report: &Inspection) -> Vec<Finding> {
    let of_server = |one: &Warning| Finding::warn("server", &one.what, &one.remedy);
    report.warnings.iter().rev().map(of_server).collect()
}

/// Connections that are idle until the next heartbeat stay open.
pub(super) fn idle(heartbeat: Duration, report: Option<&ServerReport>) -> Finding {
    match report.and_then(|(_, report, _)| report.idle_limit) {
        None => Finding::ok("idle", "the server reports no limit for idle connections"),
        Some(limit) if limit > heartbeat => Finding::ok(
            "idle",
            format!("connections may be idle for {}, longer than the heartbeat", shown(limit)),
        ),
        Some(limit) => Finding::warn(
            "idle",
            format!(
                "the server closes connections that are idle for {}, and the heartbeat is {}: heartbeats are posted more \
                 often to keep them open",
                shown(limit),
                shown(heartbeat)
            ),
            "turn the limit off or raise it (`timeout 0` in redis.conf)",
        ),
    }
}

/// Revocations are kept: for how long?
pub(super) fn log(broker: &Broker, on_disk: Option<bool>) -> Finding {
    let here = broker.capabilities().is_some_and(|capabilities| capabilities.reach == Reach::Process);
    match on_disk {
        _ if here => Finding::ok("revocations", "kept in a log while this program runs"),
        Some(true) => Finding::ok("revocations", "kept in a log that the server writes to disk"),
        None => Finding::ok("revocations", "kept in a log; the server does not report whether on disk"),
        Some(false) => Finding::warn(
            "revocations",
            "kept in a log that is not on disk: a restart of the server can lose the latest, and servers that are \
             disconnected then may miss them",
            "make it durable: `appendonly yes` for Redis, file storage for the stream of NATS, `fsync=on` for PostgreSQL",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn an_idle_limit_within_the_heartbeat_is_reported() {
        let (second, now) = (Duration::from_secs(1), SystemTime::now());
        let look = |limit| {
            let report = (now, Inspection::default().with_idle_limit(limit), now);
            idle(5 * second, Some(&report)).verdict
        };
        assert_eq!(look(None), Verdict::Ok);
        assert_eq!(look(Some(6 * second)), Verdict::Ok);
        assert_eq!(look(Some(5 * second)), Verdict::Warn);
        assert_eq!(idle(second, None).verdict, Verdict::Ok);
    }

    #[test]
    fn only_a_clock_certainly_outside_the_skew_is_reported() {
        let (second, asked) = (Duration::from_secs(1), SystemTime::now());
        let look = |at: SystemTime, answered| {
            let finding = clock(second, Some(&(asked, Inspection::new(Some(at), None), answered)));
            (finding.verdict, finding.what)
        };
        let soon = asked + second / 10;
        for (at, what) in [
            (asked + second / 20, "within 50.0 ms"),
            (asked - second / 2, "within 600.0 ms"),
            (soon + second / 2, "within 600.0 ms"),
        ] {
            let (verdict, said) = look(at, soon);
            assert!(verdict == Verdict::Ok && said.contains(what), "{said}");
        }
        for (at, what) in
            [(asked - second, "at least 1.0 s ahead of"), (soon + second * 2, "at least 2.0 s behind")]
        {
            let (verdict, said) = look(at, soon);
            assert!(verdict == Verdict::Warn && said.contains(what), "{said}");
        }
        // The answer took so long that nothing is certain.
        assert_eq!(look(asked + second * 9, asked + second * 10).0, Verdict::Ok);
        assert_eq!(clock(second, None).verdict, Verdict::Unknown);
    }
}
