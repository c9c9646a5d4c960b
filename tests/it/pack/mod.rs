//! Packing: what is selected, and exports in every form that services write.

mod selection;
mod service_exports;
