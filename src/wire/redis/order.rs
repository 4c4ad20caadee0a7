//! Orders and intents. Who orders stands in the envelope around them, and is given to the reader.

use std::time::Duration;

use nbs_core::id::{Generation, Reign, Seq};
use nbs_core::name::AppId;
use nbs_core::order::{Goal, Order, RunGoal, Turn};
use serde::{Deserialize, Serialize};

use super::{VERSION, bounds, read};
use crate::wire::record::{Cipher, DropShape, Place, RowError, RunShape, name, write};

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
    Remove {
        purge_data: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drop: Option<DropShape>,
    },
}

#[derive(Serialize, Deserialize)]
struct TurnShape {
    accept_by_us: u64,
    number: u64,
}

fn place(app: &AppId) -> Place<'_> {
    Place { kind: "order", app }
}

/// Writes an order.
///
/// # Errors
/// The cipher refused, or the order is larger than a message may be.
pub fn write_order(order: &Order, cipher: &dyn Cipher) -> Result<String, RowError> {
    let turn = match &order.goal {
        Goal::Run(goal) => goal.turn,
        Goal::Stop | Goal::Remove { .. } => None,
    };
    encode(order, turn, cipher)
}

/// Writes what should be there: the order without its turn.
///
/// # Errors
/// The cipher refused, or the order is larger than a message may be.
pub fn write_intent(order: &Order, cipher: &dyn Cipher) -> Result<String, RowError> {
    encode(order, None, cipher)
}

fn encode(order: &Order, turn: Option<Turn>, cipher: &dyn Cipher) -> Result<String, RowError> {
    let goal = match &order.goal {
        Goal::Run(goal) => {
            bounds::spec(&goal.spec)?;
            GoalShape::Run(RunShape::of(goal, cipher, place(&order.app))?)
        }
        Goal::Stop => GoalShape::Stop,
        Goal::Remove { purge_data, drop } => {
            let place = place(&order.app);
            let drop = drop.as_ref().map(|drop| DropShape::of(drop, cipher, place)).transpose()?;
            GoalShape::Remove { purge_data: *purge_data, drop }
        }
    };
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let text = write(&OrderShape {
        v: VERSION,
        app: order.app.to_string(),
        generation: order.generation.0,
        intent_seq: order.intent_seq.0,
        goal,
        turn: turn.map(|turn| TurnShape { accept_by_us: micros(turn.accept_by), number: turn.number }),
    })?;
    bounds::size(&text)?;
    Ok(text)
}

/// Reads an order of this reign.
///
/// # Errors
/// It is damaged, too large or newer, or its secrets are not for it.
pub fn read_order(text: &str, reign: Reign, cipher: &dyn Cipher) -> Result<Order, RowError> {
    let shape: OrderShape = read(text)?;
    let app = name(AppId::parse(&shape.app))?;
    let turn = shape.turn.map(|turn| Turn { accept_by: Duration::from_micros(turn.accept_by_us), number: turn.number });
    let goal = match shape.goal {
        GoalShape::Run(run) => {
            let goal = run.into_goal(cipher, place(&app), turn)?;
            bounds::spec(&goal.spec)?;
            Goal::Run(goal)
        }
        GoalShape::Stop => Goal::Stop,
        GoalShape::Remove { purge_data, drop } => {
            let drop = drop.map(|drop| drop.into_drop(cipher, place(&app))).transpose()?;
            Goal::Remove { purge_data, drop }
        }
    };
    let (generation, intent_seq) = (Generation(shape.generation), Seq(shape.intent_seq));
    Ok(Order { app, reign, generation, intent_seq, goal })
}

/// Reads what should be there. Whatever it says, it gives no turn: an intent is read again and again.
///
/// # Errors
/// As `read_order`.
pub fn read_intent(text: &str, reign: Reign, cipher: &dyn Cipher) -> Result<Order, RowError> {
    let order = read_order(text, reign, cipher)?;
    let goal = match order.goal {
        Goal::Run(goal) => Goal::Run(RunGoal { turn: None, ..goal }),
        other => other,
    };
    Ok(Order { goal, ..order })
}
