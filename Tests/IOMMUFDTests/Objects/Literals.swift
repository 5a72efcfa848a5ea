// SPDX-License-Identifier: Apache-2.0

import IOMMU

// Integer literals for addresses and PASIDs in tests.

extension IOVA: ExpressibleByIntegerLiteral {
  init(integerLiteral value: UInt64) { self.init(value) }
}

extension PASID: ExpressibleByIntegerLiteral {
  init(integerLiteral value: UInt32) { self.init(rawValue: value) }
}
