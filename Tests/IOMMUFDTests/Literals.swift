import IOMMU

// Tests write addresses and PASIDs as numbers.

extension IOVA: ExpressibleByIntegerLiteral {
  init(integerLiteral value: UInt64) { self.init(value) }
}

extension PASID: ExpressibleByIntegerLiteral {
  init(integerLiteral value: UInt32) { self.init(rawValue: value) }
}
