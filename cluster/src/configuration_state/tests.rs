//! Against the in-process server, in virtual time.

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::fake::{Asked, Fake, Fault};

const STATES: &str = "/apis/metallb.io/v1beta1/namespaces/herald/configurationstates";

struct Rig {
    fake: Fake,
    path: String,
    verdict: watch::Sender<Option<Verdict>>,
    keeper: JoinHandle<Infallible>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn pod() -> Option<Pod> {
    Some(Pod { name: "herald-1".to_owned(), uid: "p-1".to_owned() })
}

fn controller() -> Component {
    Component::controller("herald", pod())
}

fn rig(fake: Fake, component: Component) -> Rig {
    let (verdict, verdicts) = watch::channel(None);
    let path = format!("{STATES}/{}", component.name);
    let keeper = tokio::spawn(keep_state(&fake.door(), fake.door(), component, verdicts));
    Rig { fake, path, verdict, keeper }
}

fn invalid(text: &str) -> Option<Verdict> {
    Some(Verdict::Invalid(vec![text.to_owned()]))
}

impl Rig {
    /// Lets that much time pass.
    async fn pass(&self, time: Duration) {
        let none = timeout(time, std::future::pending::<()>()).await;
        assert!(none.is_err());
        assert!(!self.keeper.is_finished());
    }

    async fn settle(&self) {
        self.pass(Duration::from_secs(60)).await;
    }

    fn writes(&self) -> Vec<String> {
        let writes = self.fake.asked().into_iter().filter(|asked| asked.method != "GET");
        writes.map(|Asked { method, path, .. }| format!("{method} {path}")).collect()
    }

    fn object(&self) -> Value {
        self.fake.object(&self.path).expect("it is there")
    }

    fn result(&self) -> Value {
        self.object()["status"]["result"].clone()
    }

    /// As somebody else would edit it.
    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut object = self.object();
        edit(&mut object);
        self.fake.put(STATES, object);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_verdict_makes_the_object_and_its_status_and_then_nothing_is_written() {
    let rig = rig(Fake::new(), controller());
    rig.settle().await;
    assert!(rig.writes().is_empty(), "there is no verdict");
    rig.verdict.send_replace(Some(Verdict::Valid));
    rig.settle().await;
    let status = format!("PATCH {STATES}/controller/status");
    assert_eq!(rig.writes(), [format!("PATCH {STATES}/controller"), status.clone()]);
    let object = rig.object();
    assert_eq!(object["metadata"]["labels"], json!({ "metallb.io/component-type": "controller" }));
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "herald-1", "uid": "p-1" }]);
    assert_eq!(object["metadata"]["ownerReferences"], owner);
    assert_eq!(object["status"]["result"], "Valid");
    assert_eq!(object["status"]["conditions"][0]["type"], "poolReconcilerValid");
    rig.pass(Duration::from_secs(3600)).await;
    assert_eq!(rig.writes().len(), 2);
    rig.verdict.send_replace(invalid("it is bad."));
    rig.settle().await;
    assert_eq!(rig.writes()[2..], [status]);
    assert_eq!(rig.object()["status"]["errorSummary"], "it is bad.");
    // A verdict that is withdrawn, as by a replica that does not lead any more, changes nothing.
    rig.verdict.send_replace(None);
    rig.fake.delete(&rig.path);
    rig.settle().await;
    assert_eq!((rig.writes().len(), rig.fake.object(&rig.path)), (3, None));
}

#[tokio::test(start_paused = true)]
async fn a_speaker_is_named_by_its_node_and_needs_no_pod() {
    let rig = rig(Fake::new(), Component::speaker("herald", &"n1".into(), None));
    rig.verdict.send_replace(Some(Verdict::Unknown("no pools.".to_owned())));
    rig.settle().await;
    let object = rig.object();
    assert_eq!(object["metadata"]["name"], "speaker-n1");
    let labels = json!({ "metallb.io/component-type": "speaker", "metallb.io/node-name": "n1" });
    assert_eq!(object["metadata"]["labels"], labels);
    assert!(object["metadata"].get("ownerReferences").is_none());
    assert_eq!(object["status"]["conditions"][0]["type"], "configReconcilerValid");
    assert_eq!(rig.writes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_verdicts_is_two_writes_a_second_and_the_last_one_stands() {
    const STORM: usize = 100;
    let rig = rig(Fake::new(), controller());
    rig.verdict.send_replace(Some(Verdict::Valid));
    rig.settle().await;
    let before = rig.writes().len();
    let began = Instant::now();
    for number in 0..STORM {
        rig.verdict.send_replace(invalid(&format!("verdict {number}.")));
        rig.pass(Duration::from_millis(50)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    rig.settle().await;
    let writes = (rig.writes().len() - before) as f64;
    assert!(writes >= seconds && writes <= 2.0 * seconds + 2.0, "{writes} in {seconds} s");
    assert_eq!(rig.object()["status"]["errorSummary"], "verdict 99.");
}

#[tokio::test(start_paused = true)]
async fn what_others_delete_or_edit_is_put_right_once_and_what_they_add_stays() {
    let rig = rig(Fake::new(), controller());
    rig.verdict.send_replace(Some(Verdict::Valid));
    rig.settle().await;
    rig.fake.delete(&rig.path);
    rig.settle().await;
    assert_eq!((rig.writes().len(), rig.result()), (4, json!("Valid")));
    rig.edit(|object| object["status"]["result"] = json!("Invalid"));
    rig.settle().await;
    assert_eq!((rig.writes().len(), rig.result()), (5, json!("Valid")));
    rig.edit(|object| object["status"] = Value::Null);
    rig.settle().await;
    assert_eq!((rig.writes().len(), rig.result()), (6, json!("Valid")));
    rig.edit(|object| object["metadata"]["labels"] = json!({}));
    rig.settle().await;
    let labels = rig.object()["metadata"]["labels"].clone();
    assert_eq!((rig.writes().len(), labels), (7, json!({ COMPONENT_TYPE: "controller" })));
    rig.edit(|object| object["metadata"]["annotations"] = json!({ "seen": "yes" }));
    rig.settle().await;
    assert_eq!(rig.writes().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drops_a_field_is_not_written_to_for_ever() {
    let fake = Fake::new();
    fake.prune("errorSummary");
    let rig = rig(fake, controller());
    for (number, text) in ["one.", "two."].into_iter().enumerate() {
        rig.verdict.send_replace(invalid(text));
        rig.pass(Duration::from_secs(3600)).await;
        assert_eq!(rig.writes().len(), 2 + number, "{:?}", rig.writes());
        assert_eq!(rig.object()["status"]["conditions"][0]["message"], text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_is_waited_for() {
    let fake = Fake::new();
    fake.answer_reads(Some(404));
    let rig = rig(fake, controller());
    rig.verdict.send_replace(Some(Verdict::Valid));
    rig.pass(Duration::from_secs(3600)).await;
    assert!(rig.writes().is_empty(), "{:?}", rig.writes());
    assert!(rig.fake.asked().len() < 150, "asked {} times in an hour", rig.fake.asked().len());
    rig.fake.answer_reads(None);
    rig.settle().await;
    assert_eq!(rig.result(), "Valid");
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_come_again_at_growing_intervals_until_one_lands() {
    let rig = rig(Fake::new(), controller());
    rig.fake.fault_next_writes(
        [Fault::Lost, Fault::AnswerLost].into_iter().chain([Fault::Code(500); 9]),
    );
    rig.verdict.send_replace(Some(Verdict::Valid));
    rig.pass(Duration::from_secs(180)).await;
    let writes = rig.writes().len();
    assert!((4..=16).contains(&writes), "{writes} in three minutes");
    rig.pass(Duration::from_secs(600)).await;
    assert_eq!(rig.result(), "Valid");
    // Eleven failed; of the lost answer's the second is still to come.
    assert!(rig.writes().len() <= 13, "{:?}", rig.writes());
}
