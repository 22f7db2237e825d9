//! Service → what it asks of the controller.
