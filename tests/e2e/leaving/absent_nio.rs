//! NIO is gone while a cluster is deleted. It is given four minutes before that is called so: the longest of these tests.

use crate::common::case::Case;
use crate::leaving::trouble::{deaf, events, ready, waits_for};

/// D2: NIO's pod is gone. What it did not let go of in twice its own time is named, with the reason and the mend.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_nio_does_not_react_to_says_so() {
    let case = Case::start().await;
    ready(&case).await;
    case.world.nio().pause(true);
    deaf(&case, &["cp-01", "w-01", "w-02"], true);
    let since = case.world.nio().now();
    case.delete("prod").await;
    waits_for(&case, &["cp-01, w-01, w-02"]).await;
    let texts = [
        "cp-01 (",
        "NIO has not reacted: is it running",
        "force-release: w-02",
    ];
    waits_for(&case, &texts).await;
    let before = case.deeds();
    assert!(!before.iter().any(|deed| deed.contains("delete secrets")));
    deaf(&case, &["cp-01", "w-01", "w-02"], false);
    case.world.nio().pause(false);
    case.wait_gone("prod").await;
    case.nothing_is_left().await;
    case.removed_with_all_files(&["cp-01", "w-01", "w-02"], since);
    assert_eq!(events(&case, "Forced").await, Vec::<String>::new());
    case.finish().await;
}
