// SPDX-License-Identifier: Apache-2.0

// IOMMU_TEST_CMD: one command with many operations. Each file of this folder has one family of
// them.

internal import CUAPI
internal import SystemPackage
internal import UAPI

typealias TestCommand = UserCommand<iommu_test_cmd>

enum SelftestCommand {
  static let handler = IoctlHandler(.test, execute)

  /// selftest.c: iommufd_test()
  private static func execute(_ command: inout TestCommand) throws(Errno) {
    guard let selftest = command.context.selftest else { throw .notSupported }
    switch Int(command.arguments.op) {
    case IOMMU_TEST_OP_ACCESS_PAGES: try AccessOperations.pin(&command)
    case IOMMU_TEST_OP_ACCESS_REPLACE_IOAS: try AccessOperations.replaceIOAS(&command)
    case IOMMU_TEST_OP_ACCESS_RW: try AccessOperations.copy(&command)
    case IOMMU_TEST_OP_ADD_RESERVED: try MappingOperations.addReserved(&command)
    case IOMMU_TEST_OP_CREATE_ACCESS: try AccessOperations.create(&command)
    case IOMMU_TEST_OP_DESTROY_ACCESS_PAGES: try AccessOperations.unpin(&command)
    case IOMMU_TEST_OP_DEV_CHECK_CACHE: try CacheOperations.checkDeviceCache(&command, selftest)
    case IOMMU_TEST_OP_DIRTY: try DirtyOperations.markDirty(&command)
    case IOMMU_TEST_OP_DMABUF_GET: try DMABufferOperations.make(&command)
    case IOMMU_TEST_OP_DMABUF_REVOKE: try DMABufferOperations.revoke(&command)
    case IOMMU_TEST_OP_MD_CHECK_IOTLB: try CacheOperations.checkIOTLB(&command)
    case IOMMU_TEST_OP_MD_CHECK_MAP: try MappingOperations.checkMap(&command)
    case IOMMU_TEST_OP_MD_CHECK_REFS: try MappingOperations.checkReferences(&command)
    case IOMMU_TEST_OP_MOCK_DOMAIN:
      try MockDeviceOperations.makeDevice(&command, selftest, flags: [])
    case IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS:
      let flags = command.arguments.mock_domain_flags.dev_flags
      try MockDeviceOperations.makeDevice(&command, selftest, flags: .init(rawValue: flags))
    case IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE: try MockDeviceOperations.replace(&command)
    case IOMMU_TEST_OP_PASID_ATTACH: try MockDeviceOperations.attachPASID(&command)
    case IOMMU_TEST_OP_PASID_CHECK_HWPT: try MockDeviceOperations.checkPASID(&command)
    case IOMMU_TEST_OP_PASID_DETACH: try MockDeviceOperations.detachPASID(&command)
    case IOMMU_TEST_OP_PASID_REPLACE: try MockDeviceOperations.replacePASID(&command)
    case IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT:
      try MappingOperations.setMemoryLimit(&command, selftest)
    case IOMMU_TEST_OP_TRIGGER_IOPF: try EventOperations.requestPage(&command, selftest)
    case IOMMU_TEST_OP_TRIGGER_VEVENT: try EventOperations.reportEvent(&command, selftest)
    default: throw .notSupported
    }
  }
}

extension UserCommand<iommu_test_cmd> {
  /// Returns the paging HWPT of the operation and its mock domain. The context's lock is held.
  /// selftest.c: get_md_pagetable()
  func mockHWPT() throws(Errno) -> (hwpt: PagingHWPT, domain: MockPagingDomain) {
    let hwpt = try context.objects.lookUp(ObjectID(arguments.id), as: PagingHWPT.self)
    guard let domain = hwpt.domain as? MockPagingDomain else { throw .invalidArgument }
    return (hwpt, domain)
  }
}
