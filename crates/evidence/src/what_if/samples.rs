//! What a declared step would answer, where nobody has recorded it: the plain good answer of a site that works.

use chrono::{DateTime, Utc};
use recovery::{Generation, PointId};
use serde::Serialize;
use serde_json::Value;
use workflows::declared::{
    ActionResult, ApplyPolicy, AwaitFirstPoint, AwaitPoint, CarryOut, CarryOutOnce, CheckMachine, CheckTest, CleanTest, DiscardMachine, DropDeadline,
    DropReplica, Endpoint, ExtentMap, FenceMachine, Fenced, FinalSync, FlattenMachine, InspectMachine, Inspected, KeepExtentMap, LiftFence, ListPoints,
    LoadEvidence, LoadItem, LookAtMachines, Looked, MakeWay, MeasureWrites, Opened, PinPoint, PrepareReplica, RecoverMachine, RecoverTest, Recovered,
    RegroupReplication, RemovePoints, ReopenReplica, RequestPoint, RetireMachine, SealReplica, Sealed, Served, SetDeadline, ShutDownMachine, StartMachine, StartReplication,
    StartSource, StartTest, StartedMachine, StartedTest, StopReplication, TakeInventory, TakenInventory, UnpinPoint, Way, WithdrawPoints, Written,
};

const ASSUMED: &str = "assumed: nobody has recorded this";

/// A good answer at `now` to a step with this input; nothing if no step of that name is declared here.
#[must_use]
pub fn sample(activity: &str, input: &Value, now: DateTime<Utc>) -> Option<Value> {
    use sdk::Activity;
    let point = input.get("point").and_then(Value::as_u64).map_or(PointId::FIRST, PointId);
    let none = Some(Value::Null);
    match activity {
        LoadItem::NAME | LoadEvidence::NAME => none,
        InspectMachine::NAME => json(&Inspected { disks: vec![], machine: Value::Null }),
        FenceMachine::NAME | ShutDownMachine::NAME => json(&Fenced { evidence: ASSUMED.into(), at: now }),
        RecoverMachine::NAME | RecoverTest::NAME => json(&Recovered { point }),
        StartMachine::NAME => json(&StartedMachine { since: now }),
        StartTest::NAME => json(&StartedTest { since: now, isolation: ASSUMED.into() }),
        CheckMachine::NAME | CheckTest::NAME => json(&Served { evidence: ASSUMED.into() }),
        MeasureWrites::NAME => json(&Written { blocks: 0, bytes: 0 }),
        PrepareReplica::NAME | ReopenReplica::NAME => json(&Endpoint { address: "assumed:0".into(), tls_name: "assumed".into() }),
        SealReplica::NAME | ListPoints::NAME => json(&Sealed { points: vec![] }),
        TakeInventory::NAME => json(&TakenInventory { objects: vec![] }),
        CarryOut::NAME | CarryOutOnce::NAME => json(&ActionResult { evidence: ASSUMED.into(), status: None, output: String::new(), truncated: false }),
        FinalSync::NAME | AwaitFirstPoint::NAME | AwaitPoint::NAME => json(&point),
        LookAtMachines::NAME => json(&Looked { source_runs: None, autostart: false, quarantined: false, recovered_runs: None }),
        ApplyPolicy::NAME => {
            let endpoint = Endpoint { address: "assumed:0".into(), tls_name: "assumed".into() };
            json(&Opened { endpoint, generation: Generation { era: 0, grant_epoch: 0 } })
        }
        KeepExtentMap::NAME => json(&ExtentMap { hash: String::new(), blocks: 0, bytes: 0, newest_point: point }),
        MakeWay::NAME => json(&Way::Free),
        LiftFence::NAME
        | SetDeadline::NAME
        | DropDeadline::NAME
        | StartSource::NAME
        | DiscardMachine::NAME
        | RetireMachine::NAME
        | FlattenMachine::NAME
        | DropReplica::NAME
        | StartReplication::NAME
        | RegroupReplication::NAME
        | StopReplication::NAME
        | RequestPoint::NAME
        | PinPoint::NAME
        | UnpinPoint::NAME
        | WithdrawPoints::NAME
        | RemovePoints::NAME
        | CleanTest::NAME => none,
        _ => None,
    }
}

fn json(answer: &impl Serialize) -> Option<Value> {
    serde_json::to_value(answer).ok()
}
