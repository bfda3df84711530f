"""The forms moved to `models.cpu_forms`: steering uses them too."""

from v2f_engine.models.cpu_forms import attention as attention
from v2f_engine.models.cpu_forms import group_norm_silu as group_norm_silu
from v2f_engine.models.cpu_forms import quicken as quicken
