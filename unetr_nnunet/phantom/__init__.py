"""A synthetic abdominal CT data set in BTCV's download layout, for runs without the registration-bound data.

``generate_case`` makes one patient in memory, ``write_phantom`` a whole download.
"""

from unetr_nnunet.phantom.case import PhantomCase, generate_case
from unetr_nnunet.phantom.download import write_phantom

__all__ = ["PhantomCase", "generate_case", "write_phantom"]
