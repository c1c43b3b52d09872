//! The arithmetic of quorum (etcd FAQ, "What is failure tolerance?").

/// The number of members of `n` that must be healthy for a quorum: more than half.
#[must_use]
pub fn quorum(n: usize) -> usize {
    n / 2 + 1
}

/// Whether a control plane of `n` can keep its quorum while one of its machines is changed. With one or two members it cannot.
#[must_use]
pub fn can_be_kept(n: usize) -> bool {
    n > 2
}

/// Whether a healthy machine of `n` may be unavailable for a while: the others must still have a quorum.
#[must_use]
pub fn bears_loss_of_healthy(n: usize, healthy: usize) -> bool {
    healthy.saturating_sub(1) >= quorum(n)
}

/// Whether a sick machine of `n` may be changed: the healthy ones must have a quorum without it.
#[must_use]
pub fn bears_change_of_sick(n: usize, healthy: usize) -> bool {
    healthy >= quorum(n)
}

/// Whether another machine may join `n`: the currently healthy ones must be a quorum of `n + 1`.
#[must_use]
pub fn bears_newcomer(n: usize, healthy: usize) -> bool {
    healthy >= quorum(n + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_every_size() {
        // n, its quorum, and the fewest healthy machines with which a healthy one may be changed, a sick one may be changed, and another
        // may join.
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
