"""Write the expected reports anew: look at what has changed before it is committed."""

from tests.render.made_reports import write_all

write_all()
