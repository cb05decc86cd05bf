import numpy as np
import numpy.typing as npt

def times_us(times: npt.ArrayLike) -> npt.NDArray[np.uint64]: ...
