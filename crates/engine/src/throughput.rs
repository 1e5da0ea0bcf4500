//! The throughput estimator: how long a run takes, learned from the runs before.

use std::collections::{BTreeMap, VecDeque};

use crate::work::Work;

/// Runs that are remembered of each class.
const RUNS_OF_CLASS: usize = 15;
/// Runs after which a class is believed: of three, one outlier is never the median.
const RUNS_BELIEVED: usize = 3;

/// Predicts seconds from [`Work`], as `fixed + slope · work`.
///
/// Runs are sorted into classes by the power of two of their work, and each class remembers its
/// latest. The line is drawn through the medians of the classes (Theil and Sen: the median of the
/// slopes between all pairs), so it hears each class once, however many runs it had; the median of
/// a class's own runs then says how far above or below the line that class is. So runs of one
/// class cannot move the prediction of another that has runs of its own, and a single run that took
/// oddly long moves nothing.
///
/// For work beyond every class that was seen, no more is predicted than the line says: an estimate
/// errs towards taking a request on.
///
/// Until a first run has ended, the line is that of the steps of one that is under way.
#[derive(Default)]
pub(crate) struct ThroughputEstimator {
    classes: BTreeMap<u32, Class>,
    /// Absent until something was learned.
    line: Option<Line>,
    /// How far a run had come when it was first looked at, until one has ended.
    begun: Option<Run>,
}

struct Class {
    runs: VecDeque<Run>,
    /// How far its runs are above the line: 1 is on it.
    level: f64,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    work: f64,
    secs: f64,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    fixed_secs: f64,
    secs_per_work: f64,
}

impl ThroughputEstimator {
    /// Takes in how long a run took that ended well: of one job, or of a batch, whose work is the
    /// sum of its jobs'.
    pub(crate) fn learn(&mut self, work: Work, secs: f64) {
        let class = self.classes.entry(class(work));
        let class = class.or_insert_with(|| Class { runs: VecDeque::new(), level: 1.0 });
        if class.runs.len() == RUNS_OF_CLASS {
            class.runs.pop_front();
        }
        class.runs.push_back(Run { work: work.units(), secs });
        // While no class has enough runs, whatever there is must do.
        let most = self.classes.values().map(|class| class.runs.len()).max().unwrap_or_default();
        let least = most.min(RUNS_BELIEVED);
        let line = self.fit(least);
        for class in self.classes.values_mut() {
            class.level = match class.runs.len() >= least {
                true => median(class.runs.iter().map(|run| run.secs / line.at(run.work))),
                false => 1.0,
            };
        }
        self.line = Some(line);
        self.begun = None;
    }

    /// Takes in how far a run has come after so many seconds, while none has ended yet. What comes before its
    /// first step, the encoding of its prompt, is told from the steps by the second one.
    pub(crate) fn learn_under_way(&mut self, done: Work, secs: f64) {
        if !self.classes.is_empty() {
            return;
        }
        let run = Run { work: done.units(), secs };
        self.line = Some(match self.begun {
            Some(begun) if run.work > begun.work && run.secs >= begun.secs => {
                let secs_per_work = (run.secs - begun.secs) / (run.work - begun.work);
                let fixed_secs = (begun.secs - secs_per_work * begun.work).max(0.0);
                Line { fixed_secs, secs_per_work }
            }
            // The first look, or at another run.
            _ => {
                self.begun = Some(run);
                Line { fixed_secs: 0.0, secs_per_work: run.secs / run.work }
            }
        });
    }

    /// Seconds that a run of this work takes; `None` where nothing is known.
    pub(crate) fn predict(&self, work: Work) -> Option<f64> {
        let level = self.classes.get(&class(work)).map_or(1.0, |class| class.level);
        self.line.map(|line| level * line.at(work.units()))
    }

    /// Through the classes that have so many runs.
    fn fit(&self, least: usize) -> Line {
        let points: Vec<Run> = self
            .classes
            .values()
            .filter(|class| class.runs.len() >= least)
            .map(|class| Run {
                work: median(class.runs.iter().map(|run| run.work)),
                secs: median(class.runs.iter().map(|run| run.secs)),
            })
            .collect();
        let pairs = points.iter().enumerate().flat_map(|(i, one)| {
            points[i + 1..]
                .iter()
                .map(move |other| (other.secs - one.secs) / (other.work - one.work))
        });
        let secs_per_work = median(pairs).max(0.0);
        let fixed = median(points.iter().map(|run| run.secs - secs_per_work * run.work));
        Line { fixed_secs: fixed.max(0.0), secs_per_work }
    }
}

impl Line {
    /// Never zero, as levels are relative to it.
    fn at(self, work: f64) -> f64 {
        (self.fixed_secs + self.secs_per_work * work).max(1e-9)
    }
}

fn class(work: Work) -> u32 {
    (work.units() as u64).ilog2()
}

/// The lower one of two in the middle; 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u64 = 1_028;
    const LARGE: u64 = 21_504;

    fn learned(runs: &[(u64, f64)]) -> ThroughputEstimator {
        let mut estimator = ThroughputEstimator::default();
        for (work, secs) in runs {
            estimator.learn((*work).into(), *secs);
        }
        estimator
    }

    fn assert_near(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() <= 0.05 * expected, "{found}, not {expected}");
    }

    #[test]
    fn a_fixed_cost_and_a_slope_are_found() {
        let secs = |work: u64| 0.5 + 1e-4 * work as f64;
        let runs: Vec<_> =
            [SMALL, 4_000, LARGE].iter().flat_map(|work| [(*work, secs(*work)); 3]).collect();
        let estimator = learned(&runs);
        for work in [SMALL, 2_500, LARGE, 4 * LARGE] {
            assert_near(estimator.predict(work.into()), secs(work));
        }
    }

    #[test]
    fn nothing_is_predicted_from_nothing() {
        assert_eq!(learned(&[]).predict(LARGE.into()), None);
    }

    #[test]
    fn steps_under_way_tell_what_a_run_takes_until_one_has_ended() {
        let mut estimator = learned(&[]);
        // Two seconds for the prompt, one for each of four steps.
        for step in 1..=3 {
            estimator.learn_under_way((step * LARGE / 4).into(), 2.0 + step as f64);
            let least = if step == 1 { 4.0 * 3.0 } else { 2.0 + 4.0 };
            assert_near(estimator.predict(LARGE.into()), least);
        }
        // Another run begins, on another engine.
        estimator.learn_under_way((LARGE / 4).into(), 2.5);
        assert_near(estimator.predict(LARGE.into()), 10.0);
        estimator.learn(LARGE.into(), 6.5);
        estimator.learn_under_way((LARGE / 4).into(), 300.0);
        assert_near(estimator.predict(LARGE.into()), 6.5);
    }

    #[test]
    fn small_jobs_do_not_move_large_ones() {
        let mut estimator = learned(&[(LARGE, 3.6); 5]);
        for _ in 0..1000 {
            // Far more than in proportion.
            estimator.learn(SMALL.into(), 3.0);
        }
        assert_near(estimator.predict(LARGE.into()), 3.6);
        assert_near(estimator.predict(SMALL.into()), 3.0);
    }

    #[test]
    fn small_jobs_alone_predict_no_more_of_a_large_one_than_they_took() {
        let estimator = learned(&[(SMALL, 0.3); 20]);
        assert_near(estimator.predict(LARGE.into()), 0.3);
    }

    #[test]
    fn an_outlier_does_nothing() {
        let mut estimator = learned(&[(LARGE, 3.6); 4]);
        estimator.learn(SMALL.into(), 300.0);
        estimator.learn(LARGE.into(), 300.0);
        assert_near(estimator.predict(LARGE.into()), 3.6);
        assert!(estimator.predict(SMALL.into()).unwrap() <= 3.7);
    }

    #[test]
    fn a_batch_is_one_run() {
        // Four together take twice the time of one.
        let batch = Work::sum([Work::from(LARGE); 4]);
        let mut estimator = learned(&[(LARGE, 1.0); 3]);
        for _ in 0..3 {
            estimator.learn(batch, 2.0);
        }
        assert_near(estimator.predict(LARGE.into()), 1.0);
        assert_near(estimator.predict(batch), 2.0);
    }

    #[test]
    fn a_change_of_speed_is_learned_and_memory_is_bounded() {
        let mut estimator = learned(&[(LARGE, 3.6); 100]);
        for _ in 0..RUNS_OF_CLASS {
            estimator.learn(LARGE.into(), 1.2);
        }
        assert_near(estimator.predict(LARGE.into()), 1.2);
        assert_eq!(
            estimator.classes.values().map(|class| class.runs.len()).sum::<usize>(),
            RUNS_OF_CLASS
        );
    }
}
