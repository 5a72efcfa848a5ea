// Groups of page requests on their way to a client, and the client's answers on their way back
// (iommufd: struct iommufd_fault).
//
// A group that is read gets a cookie and waits for its answer. A group leaves the queue without its
// client when what it was requested through is detached, or when the queue goes: the device is then
// told that its request was invalid.

internal import CUAPI
internal import DequeModule
internal import HeapModule
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// Requests that are answered together (struct iopf_group).
struct PageRequestGroup: Sendable {
  /// In the order in which they came; the last one completes the group.
  let requests: [PageRequest]
  /// What the device was attached through.
  let attachment: AttachmentHandle
  let driver: any IOMMUDriver

  func answer(_ response: PageResponse) {
    guard let request = requests.last else { return }
    driver.respond(to: request.groupID, response)
  }
}

struct PageRequestQueue: QueueContents {
  /// Groups of one queue, waiting or awaiting their answer.
  static let capacity = 1 << 16

  struct Delivery: Sendable {
    let cookie: UInt32
    let group: PageRequestGroup
  }

  private var waiting: Deque<PageRequestGroup> = []
  private var awaitingAnswer: [UInt32: PageRequestGroup] = [:]
  private var cookies = Cookies()

  var isEmpty: Bool { waiting.isEmpty }

  /// iommufd: iommufd_fault_iopf_handler()
  /// - Returns: false when the attachment has ended or there is no room; the group is then not in
  ///   the queue.
  mutating func append(_ group: PageRequestGroup) -> Bool {
    guard !group.attachment.hasEnded, waiting.count + awaitingAnswer.count < Self.capacity
    else { return false }
    waiting.append(group)
    return true
  }

  /// What came through `attachment`, which has ended, is answered for the client; nil: everything.
  /// iommufd: iommufd_auto_response_faults(), iommufd_fault_destroy()
  /// - Returns: what was dropped; each group's device is to be told, without the queue's lock.
  mutating func drop(_ attachment: AttachmentHandle?) -> [PageRequestGroup] {
    func isMeant(_ group: PageRequestGroup) -> Bool {
      attachment == nil || group.attachment === attachment
    }
    var dropped = waiting.filter(isMeant)
    waiting.removeAll(where: isMeant)
    for (cookie, group) in awaitingAnswer.sorted(by: { $0.key < $1.key }) where isMeant(group) {
      forget(cookie)
      dropped.append(group)
    }
    return Array(dropped)
  }

  private mutating func forget(_ cookie: UInt32) {
    awaitingAnswer[cookie] = nil
    cookies.putBack(cookie)
  }

  // MARK: Reading

  mutating func takeFirst() -> Delivery? {
    guard let group = waiting.popFirst() else { return nil }
    let cookie = cookies.take()
    // From now on, so that a detach meanwhile finds it.
    awaitingAnswer[cookie] = group
    return Delivery(cookie: cookie, group: group)
  }

  func bytes(of delivery: Delivery) -> [UInt8] {
    delivery.group.requests.flatMap { request in
      let record = iommu_hwpt_pgfault(
        request, of: delivery.group.attachment.device, cookie: delivery.cookie)
      return withUnsafeBytes(of: record) { Array($0) }
    }
  }

  mutating func putBack(_ delivery: Delivery) {
    // It may have been dropped meanwhile.
    guard awaitingAnswer[delivery.cookie]?.attachment === delivery.group.attachment else { return }
    forget(delivery.cookie)
    waiting.prepend(delivery.group)
  }

  // MARK: Writing

  /// iommufd: iommufd_fault_fops_write()
  mutating func accept(_ record: [UInt8]) throws(Errno) -> (@Sendable () -> Void)? {
    let response = record.withUnsafeBytes { $0.loadUnaligned(as: iommu_hwpt_page_response.self) }
    let answer: PageResponse
    switch response.code {
    case IOMMUFD_PAGE_RESP_SUCCESS.rawValue: answer = .success
    case IOMMUFD_PAGE_RESP_INVALID.rawValue: answer = .invalid
    default: throw .invalidArgument
    }
    guard let group = awaitingAnswer[response.cookie] else {
      if response.cookie == 0, !awaitingAnswer.isEmpty { cookies.freeZero() }
      throw .invalidArgument
    }
    forget(response.cookie)
    return { group.answer(answer) }
  }
}

/// Numbers of deliveries: the lowest free one from 1 on. 0 is not one of them, until somebody answers
/// it in vain while there are others: the kernel's map then takes it for one that was given out and
/// is free again (XA_FLAGS_ALLOC1, xa_erase()).
private struct Cookies: Sendable {
  private var free = Heap<UInt32>()
  private var next: UInt32 = 1
  private var hasZero = false

  mutating func take() -> UInt32 {
    if let cookie = free.popMin() { return cookie }
    defer { next += 1 }
    return next
  }

  mutating func putBack(_ cookie: UInt32) { free.insert(cookie) }

  mutating func freeZero() {
    if hasZero { return }
    hasZero = true
    free.insert(0)
  }
}

extension iommu_hwpt_pgfault {
  /// iommufd: iommufd_compose_fault_message()
  fileprivate init(_ request: PageRequest, of device: ObjectID, cookie: UInt32) {
    self.init()
    if let pasid = request.pasid {
      flags |= UInt32(IOMMU_PGFAULT_FLAGS_PASID_VALID.rawValue)
      self.pasid = pasid.rawValue
    }
    if request.isLast { flags |= UInt32(IOMMU_PGFAULT_FLAGS_LAST_PAGE.rawValue) }
    dev_id = device.rawValue
    grpid = request.group
    perm = request.access.rawValue
    addr = request.address.rawValue
    self.cookie = cookie
  }
}
