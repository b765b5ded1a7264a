"""Ratings that came without their call's series: finds the call, and publishes the rating again with it."""
