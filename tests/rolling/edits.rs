//! What an edit of the spec rolls, and in which order.

use rig::judge::rollout::{Rules, order};

use super::{new_repository, ready};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_repository_rolls_workers_first_then_the_control_plane() {
    let case = ready().await;
    let rules = Rules {
        rolls: vec![case.world.nio().now()],
        ..Rules::default()
    };
    let before = case.world.nio().now();
    case.edit("prod", new_repository()).await;
    case.rolled_out("prod").await;
    assert_eq!(
        order(&case.evidence(), before),
        ["w-01", "w-02", "cp-01", "cp-02", "cp-03"]
    );
    case.finish_rolled(&rules).await;
}
