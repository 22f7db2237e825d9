//! Node → what makes it fit or unfit to announce.
