"""Revisions of the loans' tables, run by ``store.open_store``. A revision that was released is never changed."""
