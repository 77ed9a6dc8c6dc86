//! The trait a plugin implements.

use crate::{Message, Rejection, Rows, Settings};

/// A plugin's rules. The implementing type is what the settings are read into.
pub trait Transform: Settings + 'static {
    /// What the rules look at, borrowed from the batch: a struct with `#[derive(Message)]`.
    type Message<'a>: Message<'a>;

    /// What they make of it: a struct with `#[derive(Row)]`, or an `Option`, `Vec`, array or
    /// [`Change`](crate::Change) of one, or a tuple of these for several outputs.
    type Rows<'a>: Rows;

    /// Turns one message into rows, or turns it away. Messages of a partition come in their order.
    fn transform<'a>(&'a self, message: Self::Message<'a>) -> Result<Self::Rows<'a>, Rejection>;
}

/// Makes a [`Transform`] the plugin that this crate is.
///
/// `export!(Limits)` takes name and version from `Cargo.toml`; `name = "..."` and
/// `version = "..."` replace them, in this order.
#[macro_export]
macro_rules! export {
    ($transform:ty $(,)?) => {
        $crate::export!($transform, name = env!("CARGO_PKG_NAME"));
    };
    ($transform:ty, name = $name:expr $(,)?) => {
        $crate::export!($transform, name = $name, version = env!("CARGO_PKG_VERSION"));
    };
    ($transform:ty, name = $name:expr, version = $version:expr $(,)?) => {
        /// The plugin's code without a sandbox around it, for those who measure what that costs.
        #[cfg(not(target_arch = "wasm32"))]
        #[doc(hidden)]
        #[allow(dead_code)]
        pub fn link(
            settings: &str,
        ) -> ::std::result::Result<$crate::runtime::Linked, ::std::string::String> {
            $crate::runtime::link::<$transform>(settings)
        }

        const _: () = {
            use $crate::bindings::exports::sluice::plugin::transform as contract;

            const _: () = $crate::runtime::assert_outputs_differ::<$transform>();

            ::std::thread_local! {
                // A component has one thread.
                static TRANSFORM: ::std::cell::OnceCell<$transform> =
                    const { ::std::cell::OnceCell::new() };
            }

            #[allow(dead_code)]
            struct Component;

            impl contract::Guest for Component {
                fn configure(
                    settings: ::std::string::String,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    TRANSFORM.with(|cell| $crate::runtime::configure(cell, &settings))
                }

                fn describe() -> contract::Description {
                    $crate::runtime::describe::<$transform>($name, $version)
                }

                fn process(
                    batch: contract::Batch,
                ) -> ::std::result::Result<contract::Outcome, ::std::string::String> {
                    TRANSFORM.with(|cell| $crate::runtime::process(cell.get(), &batch))
                }
            }

            #[cfg(target_arch = "wasm32")]
    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
    };
}
