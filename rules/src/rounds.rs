//! Rounds of maintenance as their callers keep them: which jobs have failed, and when each is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

/// The job that notes that a round has ended. It is done only when no other job is in trouble, so that health tells of one that stays so.
pub const END_OF_ROUND: &str = "end_round";

/// The pause after so many failures in a row: it doubles from `first` up to `longest`.
#[must_use]
pub fn pause_after(failures: u32, first: Duration, longest: Duration) -> Duration {
    first
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(longest)
}

/// The jobs that failed when they were last run. `E` is what is told of a failure. Times are counted from any fixed moment.
#[derive(Debug)]
pub struct Troubles<E> {
    jobs: BTreeMap<String, Trouble<E>>,
    first_pause: Duration,
    longest_pause: Duration,
}

#[derive(Debug)]
struct Trouble<E> {
    failures: u32,
    rests_until: Duration,
    told: E,
}

impl<E: PartialEq> Troubles<E> {
    /// None yet; a job that fails rests for `first_pause`, twice as long each time, `longest_pause` at most.
    #[must_use]
    pub fn new(first_pause: Duration, longest_pause: Duration) -> Self {
        Self {
            jobs: BTreeMap::new(),
            first_pause,
            longest_pause,
        }
    }

    /// Whether a job may be run now.
    #[must_use]
    pub fn lets_run(&self, job: &str, now: Duration) -> bool {
        if job == END_OF_ROUND {
            return self.jobs.is_empty();
        }
        self.jobs
            .get(job)
            .is_none_or(|trouble| trouble.rests_until <= now)
    }

    /// Notes that a job failed; true when that is to be told: it is new, or another failure than before.
    pub fn failed(&mut self, job: &str, now: Duration, told: E) -> bool {
        let before = self.jobs.remove(job);
        let failures = before
            .as_ref()
            .map_or(0, |trouble| trouble.failures)
            .saturating_add(1);
        let is_new = before.is_none_or(|trouble| trouble.told != told);
        let rests_until = now + pause_after(failures, self.first_pause, self.longest_pause);
        let trouble = Trouble {
            failures,
            rests_until,
            told,
        };
        self.jobs.insert(job.to_owned(), trouble);
        is_new
    }

    /// How long a job that failed still rests.
    #[must_use]
    pub fn rest_of(&self, job: &str, now: Duration) -> Duration {
        self.jobs.get(job).map_or(Duration::ZERO, |trouble| {
            trouble.rests_until.saturating_sub(now)
        })
    }

    /// Notes that a job was done; true when it had failed before.
    pub fn done(&mut self, job: &str) -> bool {
        self.jobs.remove(job).is_some()
    }

    /// Takes out those that aren't due any more, and gives their names: nothing is left in which they could fail.
    pub fn keep(&mut self, due: &[String]) -> Vec<String> {
        let gone: Vec<String> = self
            .jobs
            .keys()
            .filter(|job| !due.contains(job))
            .cloned()
            .collect();
        for job in &gone {
            self.jobs.remove(job);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn troubles() -> Troubles<&'static str> {
        Troubles::new(SECOND, SECOND * 30)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(pause_after(1, SECOND, SECOND * 30), SECOND);
        assert_eq!(pause_after(3, SECOND, SECOND * 30), SECOND * 4);
        assert_eq!(pause_after(u32::MAX, SECOND, SECOND * 30), SECOND * 30);
    }

    #[test]
    fn a_job_that_fails_rests_longer_each_time_and_holds_up_no_other() {
        let mut troubles = troubles();
        assert!(troubles.lets_run("evaluate", SECOND));
        troubles.failed("evaluate", SECOND, "no");
        assert!(!troubles.lets_run("evaluate", SECOND));
        assert!(troubles.lets_run("bulk_jobs", SECOND));
        assert!(troubles.lets_run("evaluate", SECOND * 2));
        troubles.failed("evaluate", SECOND * 2, "no");
        assert!(!troubles.lets_run("evaluate", SECOND * 3));
        assert_eq!(troubles.rest_of("evaluate", SECOND * 3), SECOND);
        assert!(troubles.lets_run("evaluate", SECOND * 4));
    }

    #[test]
    fn the_end_of_a_round_is_noted_only_without_trouble() {
        let mut troubles = troubles();
        assert!(troubles.lets_run(END_OF_ROUND, SECOND));
        troubles.failed("evaluate", SECOND, "no");
        assert!(!troubles.lets_run(END_OF_ROUND, SECOND * 100));
        assert!(troubles.done("evaluate"));
        assert!(troubles.lets_run(END_OF_ROUND, SECOND * 100));
    }

    #[test]
    fn each_failure_is_told_once() {
        let mut troubles = troubles();
        assert!(troubles.failed("evaluate", SECOND, "no"));
        assert!(!troubles.failed("evaluate", SECOND * 2, "no"));
        assert!(troubles.failed("evaluate", SECOND * 3, "still not"));
        assert!(troubles.done("evaluate"));
        assert!(!troubles.done("evaluate"));
        assert!(troubles.failed("evaluate", SECOND * 4, "still not"));
    }

    #[test]
    fn a_job_that_is_not_due_any_more_is_in_no_trouble() {
        let mut troubles = troubles();
        troubles.failed("evaluate", SECOND, "no");
        troubles.failed("bulk_jobs", SECOND, "no");
        assert_eq!(troubles.keep(&["bulk_jobs".to_owned()]), ["evaluate"]);
        assert!(!troubles.lets_run("bulk_jobs", SECOND));
        assert!(troubles.keep(&["bulk_jobs".to_owned()]).is_empty());
    }
}
