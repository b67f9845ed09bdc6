"""A page that shows CTs and label maps in three planes and 3-D, and the server on this machine that it comes from."""
