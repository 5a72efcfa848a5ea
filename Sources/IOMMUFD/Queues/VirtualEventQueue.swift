// Events of a guest's unit on their way to the client (iommufd: struct iommufd_veventq).
//
// The number of an event counts every event of the queue, the lost ones included. An event is lost when
// as many as the client asked for are waiting; a header without data then says so, always the newest of
// the queue, until an event is queued behind it: the gap in the numbers tells the same.

internal import CUAPI
internal import DequeModule

struct VirtualEventQueue: QueueContents {
  struct Event: Sendable {
    let sequence: UInt32
    /// Nil: events were lost.
    let data: [UInt8]?
  }

  private let depth: Int
  private var events: Deque<Event> = []
  /// Events with data that were queued and not yet read.
  private var count = 0
  private var nextSequence: UInt32

  init(depth: Int, firstSequence: UInt32 = 0) {
    self.depth = depth
    nextSequence = firstSequence
  }

  /// iommufd: iommufd_viommu_report_event(), iommufd_vevent_handler()
  mutating func append(_ data: [UInt8]) {
    let isLost = count >= depth
    if let last = events.last, last.data == nil { events.removeLast() }
    events.append(Event(sequence: nextSequence, data: isLost ? nil : data))
    if !isLost { count += 1 }
    // INT_MAX
    nextSequence = (nextSequence + 1) & 0x7fff_ffff
  }

  var isEmpty: Bool { events.isEmpty }

  mutating func takeFirst() -> Event? { events.popFirst() }

  func bytes(of event: Event) -> [UInt8] {
    let flags = event.data == nil ? UInt32(IOMMU_VEVENTQ_FLAG_LOST_EVENTS.rawValue) : 0
    let header = iommufd_vevent_header(flags: flags, sequence: event.sequence)
    return withUnsafeBytes(of: header) { Array($0) } + (event.data ?? [])
  }

  /// iommufd: iommufd_veventq_deliver_restore()
  mutating func putBack(_ event: Event) {
    // Something newer says as much.
    if event.data == nil, !events.isEmpty { return }
    events.prepend(event)
  }

  mutating func confirm(_ event: Event) {
    if event.data != nil { count -= 1 }
  }
}
