//! The arithmetic of quorum (etcd FAQ, "What is failure tolerance?").

/// How many members of `n` must be well, so that the control plane can decide: more than half.
#[must_use]
pub fn quorum(n: usize) -> usize {
    n / 2 + 1
}

/// Whether a control plane of `n` can keep its quorum while one of its machines is changed; of one or two it cannot.
#[must_use]
pub fn can_be_kept(n: usize) -> bool {
    n > 2
}

/// Whether a healthy machine of `n` may be taken away for a while: the others alone must be a quorum.
#[must_use]
pub fn bears_loss_of_healthy(n: usize, healthy: usize) -> bool {
    healthy.saturating_sub(1) >= quorum(n)
}

/// Whether a sick machine of `n` may be changed: the healthy ones must be a quorum without it.
#[must_use]
pub fn bears_change_of_sick(n: usize, healthy: usize) -> bool {
    healthy >= quorum(n)
}

/// Whether one more machine may join `n`: the healthy ones must be a quorum of all of them, before the newcomer counts.
#[must_use]
pub fn bears_newcomer(n: usize, healthy: usize) -> bool {
    healthy >= quorum(n + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_every_size() {
        // n, quorum, the healthy ones without which: no healthy one is changed, no sick one, nobody joins.
        for (n, majority, healthy, sick, join) in [
            (1, 1, 2, 1, 2),
            (2, 2, 3, 2, 2),
            (3, 2, 3, 2, 3),
            (4, 3, 4, 3, 3),
            (5, 3, 4, 3, 4),
            (6, 4, 5, 4, 4),
            (7, 4, 5, 4, 5),
        ] {
            assert_eq!(quorum(n), majority, "{n}");
            for well in 0..=n + 1 {
                assert_eq!(
                    bears_loss_of_healthy(n, well),
                    well >= healthy,
                    "{n} {well}"
                );
                assert_eq!(bears_change_of_sick(n, well), well >= sick, "{n} {well}");
                assert_eq!(bears_newcomer(n, well), well >= join, "{n} {well}");
            }
        }
    }
}
