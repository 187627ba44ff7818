//! Another version of the image, and the one before again, while connections are open and a stranger knocks.

use k8s_openapi::api::core::v1::Pod;

use crate::bed::{Bed, PATIENCE, POLDER, within};
use crate::guarded::Guarded;

/// The image as nodes know it, without its tag.
const IMAGE: &str = "docker.io/library/polder";

#[tokio::test]
async fn an_upgrade_and_a_downgrade_open_nothing_and_break_nothing() {
    let Some(bed) = Bed::new("upgrade").await else { return };
    let guarded = Guarded::new(&bed).await;
    let now = image(&bed.agent("n1").await);
    let tag = now.rsplit(':').next().unwrap().to_owned();
    for (node, _) in bed.cluster.nodes() {
        let mut ctr = bed.cluster.exec(&node, "ctr").unwrap();
        let (now, next) = (format!("{IMAGE}:{tag}"), format!("{IMAGE}:next"));
        ctr.args(["--namespace", "k8s.io", "images", "tag", "--force", &now, &next]);
        let output = ctr.output().unwrap();
        assert!(output.status.success(), "{node}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for (what, tag) in [("upgrade", "next"), ("downgrade", &tag)] {
        bed.helm(&["upgrade", POLDER, "CHART", "--reuse-values", "--set", &format!("image.tag={tag}")]);
        within("every node's agent of that image", PATIENCE, async || {
            for (node, _) in bed.cluster.nodes() {
                if !image(&bed.agent(&node).await).ends_with(&format!(":{tag}")) {
                    return None;
                }
            }
            Some(())
        })
        .await;
        bed.polder_ready().await;
        assert!(guarded.friend_connects() && !guarded.other_connects(), "{what}");
        let (open, interrupted) = guarded.harm();
        println!("{what}: OPEN-ms {open}, INTR {interrupted}");
        assert_eq!((open, interrupted), (0, 0), "{what}");
    }
}

fn image(pod: &Pod) -> String {
    let containers = &pod.spec.as_ref().unwrap().containers;
    containers.first().and_then(|one| one.image.clone()).unwrap_or_default()
}
