//! What the macros [`handler!`](crate::handler!) and [`filter!`](crate::filter!) expand to: the way from the generated traits to the
//! ones that authors implement.

use crate::bindings::handler::exports::busway::plugin::handler as wit_handler;
use crate::bindings::{filter::exports::busway::plugin::filter as wit_filter, handler::busway::plugin::types as wit};
use crate::description::Package;
use crate::{Delivery, Description, Failure, Filter, FilterDescription, Handler};

/// Makes a component out of a type that implements [`crate::Handler`]. Once in a crate, at its top.
#[macro_export]
macro_rules! handler {
    ($handler:ty) => {
        const _: () = {
            struct Export;
            impl $crate::__private::HandlerGuest for Export {
                fn describe() -> $crate::__private::HandlerDescription {
                    $crate::__private::describe_handler::<$handler>($crate::__package!())
                }
                fn handle(
                    event: $crate::__private::WitEvent,
                    delivery: $crate::Delivery,
                ) -> ::std::result::Result<(), $crate::Failure> {
                    $crate::__private::handle::<$handler>(event, delivery)
                }
            }
    $crate::__private::handler::export_handler!(Export with_types_in $crate::__private::handler);
        };
    };
}

/// Makes a component out of a type that implements [`crate::Filter`]. Once in a crate, at its top.
#[macro_export]
macro_rules! filter {
    ($filter:ty) => {
        const _: () = {
            struct Export;
            impl $crate::__private::FilterGuest for Export {
                fn describe() -> $crate::__private::FilterDescription {
                    $crate::__private::describe_filter::<$filter>($crate::__package!())
                }
                fn matches(
                    event: $crate::__private::WitEvent,
                    params: ::std::option::Option<::std::string::String>,
                ) -> ::std::result::Result<bool, ::std::string::String> {
                    $crate::__private::matches::<$filter>(event.into(), params.as_deref())
                }
            }
    $crate::__private::filter::export_filter!(Export with_types_in $crate::__private::filter);
        };
    };
}

// A macro, so that it reads the environment of the plugin's build, not of this crate's.
#[doc(hidden)]
#[macro_export]
macro_rules! __package {
    () => {
        $crate::__private::Package {
            name: ::std::env!("CARGO_PKG_NAME"),
            version: ::std::env!("CARGO_PKG_VERSION"),
            description: ::std::env!("CARGO_PKG_DESCRIPTION"),
            homepage: ::std::env!("CARGO_PKG_HOMEPAGE"),
        }
    };
}

/// What the handler says of itself, in the contract's own types.
pub fn describe_handler<H: Handler>(package: Package) -> wit_handler::Description {
    H::describe(Description::of(package)).into_wit()
}

/// One call of the handler.
pub fn handle<H: Handler>(event: wit::Event, delivery: Delivery) -> Result<(), Failure> {
    H::handle(event.into(), delivery)
}

/// What the filter says of itself, in the contract's own types.
pub fn describe_filter<F: Filter>(package: Package) -> wit_filter::Description {
    F::describe(FilterDescription::of(package, F::PARAMS_SCHEMA)).into_wit()
}

/// One question to the filter. Parameters that were not given are `{}`, so that a type whose fields all have defaults needs no case for it.
pub fn matches<F: Filter>(event: crate::Event, params: Option<&str>) -> Result<bool, String> {
    let params = serde_json::from_str(params.unwrap_or("{}")).map_err(|e| format!("params: {e}"))?;
    F::matches(event, params).map_err(|e| e.0)
}
