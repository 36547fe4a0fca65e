//! When which pods are read. It has no clock: the time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use pod_identity_core::identity::{Namespace, ServiceAccount};
use tokio::time::Instant;

use crate::knowledge::Change;

/// How long after its last change the pods of an account are looked at. First, when an account that was written
/// several times in a row is quiet; later again, for pods whose review read the account before the change and
/// that were stored after it: an API server waits up to 30 s for its webhooks.
const LOOKS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(35)];
/// The same for all pods. Readings of all are far apart, so the second look would be no other than the third.
const LOOKS_AT_ALL: [Duration; 2] = [LOOKS[0], LOOKS[2]];
/// How long after a reading of all pods ended changes may ask for the next one: in a cluster where something
/// always changes the API server lists no more than that.
const BETWEEN_FULL: Duration = Duration::from_secs(30);
/// When a reading that failed is begun again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The most accounts whose pods are read one account after the other; more are a reading of all pods.
const MOST_ACCOUNTS: usize = 50;

/// Whose pods are to be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    All,
    Accounts(Vec<(Namespace, ServiceAccount)>),
}

/// What is to be read, and when.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    /// When all pods are read though nothing changed. Only a reading of all that succeeded moves it.
    next_full: Instant,
    /// When the last reading of all ended.
    last_full: Option<Instant>,
    /// A change that may be about any account.
    everything: Option<Looks>,
    accounts: BTreeMap<(Namespace, ServiceAccount), Looks>,
    /// Until when nothing is read, since it has just failed.
    paused: Option<Instant>,
}

/// The looks that a change asks for.
#[derive(Debug, Clone, Copy)]
struct Looks {
    /// The last of the changes.
    changed: Instant,
    next: Instant,
}

impl Looks {
    /// One more change. It brings further looks, and puts off none.
    fn after(earlier: Option<&Self>, changed: Instant) -> Self {
        let first = changed + LOOKS[0];
        Self { changed, next: earlier.map_or(first, |earlier| earlier.next.min(first)) }
    }

    /// What is left of them after a reading that began at `began`.
    fn left(self, looks: &[Duration], began: Instant) -> Option<Self> {
        if self.next > began {
            return Some(self);
        }
        let next = looks.iter().map(|after| self.changed + *after).find(|next| *next > began)?;
        Some(Self { next, ..self })
    }
}

impl Schedule {
    /// All pods at once, and then every `interval`.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            next_full: now,
            last_full: None,
            everything: None,
            accounts: BTreeMap::new(),
            paused: None,
        }
    }

    /// Something has changed.
    pub(super) fn add(&mut self, change: Change, now: Instant) {
        match change {
            Change::Account(namespace, account) => {
                let key = (namespace, account);
                let looks = Looks::after(self.accounts.get(&key), now);
                self.accounts.insert(key, looks);
                if self.accounts.len() > MOST_ACCOUNTS {
                    self.accounts.clear();
                    self.add(Change::Everything, now);
                }
            }
            Change::Everything => self.everything = Some(Looks::after(self.everything.as_ref(), now)),
        }
    }

    /// When the next reading of all pods is to begin.
    fn full(&self) -> Instant {
        let asked = self.everything.map(|looks| match self.last_full {
            Some(last) => looks.next.max(last + BETWEEN_FULL),
            None => looks.next,
        });
        asked.map_or(self.next_full, |asked| asked.min(self.next_full))
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Instant {
        let of_accounts = self.accounts.values().map(|looks| looks.next).min();
        let next = of_accounts.map_or(self.full(), |next| next.min(self.full()));
        self.paused.map_or(next, |paused| next.max(paused))
    }

    /// What is due now.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        if self.next() > now {
            return None;
        }
        if self.full() <= now {
            return Some(Due::All);
        }
        let due = self.accounts.iter().filter(|(_, looks)| looks.next <= now);
        Some(Due::Accounts(due.map(|(account, _)| account.clone()).collect()))
    }

    /// What was due has been read, from `began` until now.
    pub(super) fn done(&mut self, due: &Due, began: Instant, now: Instant) {
        self.paused = None;
        match due {
            Due::All => {
                (self.next_full, self.last_full) = (now + self.interval, Some(now));
                self.everything = self.everything.and_then(|looks| looks.left(&LOOKS_AT_ALL, began));
                let looked = std::mem::take(&mut self.accounts).into_iter();
                self.accounts =
                    looked.filter_map(|(key, looks)| Some((key, looks.left(&LOOKS, began)?))).collect();
            }
            Due::Accounts(accounts) => {
                for account in accounts {
                    let left = self.accounts.remove(account).and_then(|looks| looks.left(&LOOKS, began));
                    self.accounts.extend(left.map(|looks| (account.clone(), looks)));
                }
            }
        }
    }

    /// It could not be read, and stays due.
    pub(super) fn failed(&mut self, now: Instant) {
        self.paused = Some(now + PAUSE_AFTER_FAILURE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A schedule and its time, in seconds from the start.
    struct Stand {
        schedule: Schedule,
        start: Instant,
        second: u64,
    }

    impl Stand {
        fn every(interval: Duration) -> Self {
            let start = Instant::from_std(pod_identity_runtime::clock::monotonic());
            Self { schedule: Schedule::new(interval, start), start, second: 0 }
        }

        fn now(&self) -> Instant {
            self.start + Duration::from_secs(self.second)
        }

        fn change(&mut self, name: &str) {
            self.schedule.add(account(name), self.now());
        }

        /// What is read until a second of the test, and when; all of it takes no time, and succeeds.
        fn read_until(&mut self, end: u64) -> Vec<(u64, Due)> {
            let mut read = Vec::new();
            while self.second < end {
                if let Some(due) = self.schedule.due(self.now()) {
                    self.schedule.done(&due, self.now(), self.now());
                    read.push((self.second, due));
                }
                self.second += 1;
            }
            read
        }
    }

    fn account(name: &str) -> Change {
        Change::Account("shop".parse().unwrap(), name.parse().unwrap())
    }

    fn of(name: &str) -> Due {
        Due::Accounts(vec![("shop".parse().unwrap(), name.parse().unwrap())])
    }

    #[test]
    fn all_are_read_at_once_and_at_each_interval_however_often_accounts_change() {
        let mut stand = Stand::every(Duration::from_secs(60));
        let mut full = Vec::new();
        while stand.second < 200 {
            stand.change("cart");
            let until = stand.second + 1;
            let read = stand.read_until(until);
            full.extend(read.into_iter().filter(|(_, due)| *due == Due::All).map(|(second, _)| second));
        }
        assert_eq!(full, [0, 60, 120, 180]);
    }

    #[test]
    fn a_changed_account_is_looked_at_again_after_reviews_that_came_before_the_change_have_ended() {
        let mut stand = Stand::every(HOUR);
        stand.read_until(1);
        stand.change("cart");
        let expected = [(3, of("cart")), (11, of("cart")), (36, of("cart"))];
        assert_eq!(stand.read_until(200), expected);
    }

    #[test]
    fn one_more_change_puts_off_no_look() {
        let mut stand = Stand::every(HOUR);
        stand.read_until(1);
        stand.change("cart");
        stand.read_until(2);
        stand.change("cart");
        assert_eq!(stand.read_until(36), [(3, of("cart")), (4, of("cart")), (12, of("cart"))]);
        assert_eq!(stand.read_until(200), [(37, of("cart"))]);
    }

    #[test]
    fn changes_that_may_be_about_all_ask_for_all_and_not_too_often() {
        let mut stand = Stand::every(HOUR);
        let mut full: Vec<u64> = Vec::new();
        while stand.second < 100 {
            stand.schedule.add(Change::Everything, stand.now());
            let until = stand.second + 1;
            full.extend(stand.read_until(until).into_iter().map(|(second, _)| second));
        }
        assert_eq!(full, [0, 30, 60, 90]);
        // The last change was at 99 s: a look that began after it, and the one for late pods.
        assert_eq!(stand.read_until(1000), [(120, Due::All), (150, Due::All)]);
    }

    #[test]
    fn many_accounts_are_a_reading_of_all() {
        let mut stand = Stand::every(HOUR);
        stand.read_until(40);
        for number in 0..=MOST_ACCOUNTS {
            stand.change(&format!("cart-{number}"));
        }
        assert_eq!(stand.read_until(200), [(42, Due::All), (75, Due::All)]);
    }

    #[test]
    fn what_failed_stays_due_and_pauses_first() {
        let mut stand = Stand::every(HOUR);
        stand.schedule.failed(stand.now());
        assert_eq!(stand.schedule.due(stand.now()), None);
        stand.change("cart");
        assert_eq!(stand.read_until(40), [(10, Due::All), (35, of("cart"))]);
    }

    #[test]
    fn what_changes_while_all_are_read_is_looked_at_after_it() {
        let mut stand = Stand::every(HOUR);
        let began = stand.now();
        stand.second = 20;
        stand.schedule.done(&Due::All, began, stand.now());
        stand.change("cart");
        assert_eq!(stand.read_until(25), [(22, of("cart"))]);
    }
}
