//! What `export!` calls: the three functions of the contract, for any transform.

use std::cell::OnceCell;

pub use crate::bindings::exports::sluice::plugin::transform::Batch;
use crate::bindings::exports::sluice::plugin::transform::{Outcome, Rejection as Rejected};
pub use crate::bindings::sluice::plugin::columns::Column;
use crate::log::{self, Level};
use crate::schema::{self, Description};
use crate::{Message, Rejection, Rows, Settings, Transform};

/// Called once per batch.
pub fn process<T: Transform>(transform: Option<&T>, batch: &Batch) -> Result<Outcome, String> {
    let transform = transform.ok_or("process was called before configure")?;
    let count = batch.count;
    let mut columns = T::Message::open(batch)?;
    let mut tables = T::Rows::tables(count as usize);
    let mut rejections = Vec::new();
    for message in 0..count {
        match T::Message::next(&mut columns).and_then(|decoded| transform.transform(decoded)) {
            Ok(rows) => rows.put_into(message, &mut tables),
            Err(rejection) => rejections.push(rejected(message, rejection)),
        }
    }
    let mut outputs = Vec::new();
    T::Rows::finish(tables, &mut outputs);
    Ok(Outcome { outputs, rejections })
}

#[cold]
fn rejected(message: u32, rejection: Rejection) -> Rejected {
    let (code, reason, retry) = rejection.into_parts();
    Rejected { message, code, reason, retry }
}

/// A plugin's `process` with its settings, as part of another program.
pub type Linked = Box<dyn Fn(&Batch) -> Result<Outcome, String>>;

/// What `export!` makes of a transform outside of a sandbox.
pub fn link<T: Transform>(settings: &str) -> Result<Linked, String> {
    let transform = T::from_json(settings)?;
    Ok(Box::new(move |batch| process(Some(&transform), batch)))
}

/// Called once per instance, before anything else.
pub fn configure<T: Transform>(cell: &OnceCell<T>, settings: &str) -> Result<(), String> {
    report_panics();
    let transform = T::from_json(settings)?;
    cell.set(transform).map_err(|_| "configure was called twice".to_owned())
}

/// A component that panics is a trap without a message: the text must leave before.
fn report_panics() {
    // Natively the test harness has its own hook.
    if cfg!(target_arch = "wasm32") {
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string())));
    }
}

/// What the plugin reads and produces.
pub fn describe<T: Transform>(name: &str, version: &str) -> Description {
    type Of<T> = <T as Transform>::Message<'static>;
    let (payload, outputs) = schema::describe(Of::<T>::INPUTS, &T::Rows::<'static>::TABLES);
    Description {
        name: name.to_owned(),
        version: version.to_owned(),
        reads: Of::<T>::reads(),
        payload,
        outputs,
        settings: <T as Settings>::json_schema(),
    }
}

/// Stops the build when two parts of a tuple write the same output.
pub const fn assert_outputs_differ<T: Transform>() {
    assert!(
        <T::Rows<'static> as Rows>::TABLES.differ(),
        "two parts of this transform's `Rows` have the same `output`; give each its own, or put the rows into one `Vec`"
    );
}
