"""The invented programmes: their applications, their people, and what happened in them."""
