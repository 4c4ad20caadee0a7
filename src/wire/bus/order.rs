//! An order, as the entry sends it and as it keeps it for those who miss it (an intent).

use std::time::Duration;

use nbs_core::id::{Generation, Reign, Seq};
use nbs_core::name::AppId;
use nbs_core::order::{Goal, Order, Turn};
use serde::{Deserialize, Serialize};

use crate::wire::bus::VERSION;
use crate::wire::record::{Cipher, Place, RowError, RunShape, name, read, write};

#[derive(Serialize, Deserialize)]
struct OrderShape {
    v: u32,
    app: String,
    generation: u64,
    intent_seq: u64,
    goal: GoalShape,
    #[serde(default)]
    turn: Option<TurnShape>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "be", rename_all = "lowercase")]
enum GoalShape {
    Run(RunShape),
    Stop,
    Remove { purge_data: bool },
}

#[derive(Serialize, Deserialize)]
struct TurnShape {
    number: u64,
    accept_by_ms: u64,
}

/// Writes an order; secrets in it are sealed for the environment whose cipher is given. Its reign is the envelope's.
///
/// # Errors
/// The cipher refused.
pub fn write_order(order: &Order, cipher: &dyn Cipher) -> Result<String, RowError> {
    let mut turn = None;
    let goal = match &order.goal {
        Goal::Run(run) => {
            turn = run.turn;
            GoalShape::Run(RunShape::of(run, cipher, Place { kind: "order", app: &order.app })?)
        }
        Goal::Stop => GoalShape::Stop,
        Goal::Remove { purge_data } => GoalShape::Remove { purge_data: *purge_data },
    };
    let accept_by_ms = |turn: Turn| u64::try_from(turn.accept_by.as_millis()).unwrap_or(u64::MAX);
    write(&OrderShape {
        v: VERSION,
        app: order.app.to_string(),
        generation: order.generation.0,
        intent_seq: order.intent_seq.0,
        goal,
        turn: turn.map(|turn| TurnShape { number: turn.number, accept_by_ms: accept_by_ms(turn) }),
    })
}

/// Reads an order. `reign`: what its envelope says.
///
/// # Errors
/// It is damaged or newer, or its secrets are not for this environment.
pub fn read_order(text: &str, reign: Reign, cipher: &dyn Cipher) -> Result<Order, RowError> {
    let shape: OrderShape = read(text, VERSION)?;
    let app = name(AppId::parse(&shape.app))?;
    let turn = shape.turn.map(|t| Turn { accept_by: Duration::from_millis(t.accept_by_ms), number: t.number });
    let goal = match shape.goal {
        GoalShape::Run(run) => Goal::Run(run.into_goal(cipher, Place { kind: "order", app: &app }, turn)?),
        GoalShape::Stop => Goal::Stop,
        GoalShape::Remove { purge_data } => Goal::Remove { purge_data },
    };
    Ok(Order { app, reign, generation: Generation(shape.generation), intent_seq: Seq(shape.intent_seq), goal })
}
