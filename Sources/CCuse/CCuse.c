#include "CCuse.h"
